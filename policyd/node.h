/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A text as a tree of nodes that know where they were written: the common form of a YAML file and
 * of the words of a command line. Depth, size and number of nodes are bounded; aliases, tags and
 * further documents are refused, so that the tree is exactly what a reader of the text sees.
 */
#ifndef DMM_POLICYD_NODE_H
#define DMM_POLICYD_NODE_H

#include "policyd/policy.h"

#define NODE_MAX_BYTES (32 << 20) /* 65 536 rules of 500 bytes */
#define NODE_MAX_NODES (4 << 20)  /* 64 a rule; they take up to 100 bytes of memory each */
#define NODE_MAX_DEPTH 16

enum node_type { NODE_SCALAR, NODE_LIST, NODE_MAP };

struct node {
	enum node_type type;
	unsigned line, column;
	bool plain;	     /* a scalar without quotes */
	char *value;	     /* scalar: NUL-terminated, without NULs inside; behind the node */
	struct node **child; /* list: items; map: key, value, key, value … ; keys are scalars */
	size_t n;
};

struct node *node_new(enum node_type type, unsigned line, unsigned column);
struct node *node_new_scalar(const char *value, unsigned line, unsigned column);
void node_free(struct node *n);

/* Append child to a list or map; takes it over, also on failure. -ENOMEM, or -EINVAL when child is
 * NULL (so that the result of node_new() can be passed on unseen). */
int node_add(struct node *parent, struct node *child);

/* Value of a key of a map, NULL if there is none. */
struct node *node_get(const struct node *map, const char *key);

/* True for nothing, ~ and null, without quotes. */
bool node_is_null(const struct node *n);

/*
 * Read one YAML document. *ret is NULL for an empty text. -EINVAL with a diagnostic that names the
 * place in `file`.
 */
int node_parse(const char *file, const char *text, size_t len, struct node **ret,
	       struct policy_diags *reterr);

#endif
