/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objects of the policy language as tables: one row a key. The reader of YAML, the words of the
 * command line, the help, the JSON schema and the "did you mean" all use the same rows.
 */
#ifndef DMM_POLICYD_KEYS_H
#define DMM_POLICYD_KEYS_H

#include <stddef.h>
#include <stdint.h>

#include "policyd/node.h"

/* Where we are in the text, for messages. */
struct keys_at {
	const char *file;
	struct policy_diags *diags;
	const char *object; /* 'match of rule "web"'; "" at the top */
};

/* How a value looks, for the schema. The readers below imply it, and so do words. */
enum key_form {
	FORM_BY_READER,
	FORM_TEXT,
	FORM_NAME,
	FORM_TOKEN, /* a name of others: an interface, a congestion control, a plug-in */
	FORM_PATH,
	FORM_ENDPOINT,
	FORM_URL,
	FORM_FILE,
	FORM_KEYS, /* a prefix of keys */
	FORM_HOST,
	FORM_NUMBER,
	FORM_RATE,
	FORM_BOOL,
	FORM_WORD,
	FORM_PREFIX, /* or the name of a set, where the row has sets */
	FORM_PORTS,  /* the same */
	FORM_SET,    /* a list of prefixes or one of ports */
	FORM_UIDS,
	FORM_PROGRAM,
	FORM_SET_PREFIX, /* of a set */
	FORM_SET_PORTS,
	FORM_SET_NAME,
	FORM_WEIGHT,
	FORM_DURATION,
	FORM_GAIN,
	FORM_CANARY,
	FORM_VERSION,
	FORM_MAP,	   /* a mapping of the rows key.keys */
	FORM_MAPS,	   /* a list of such mappings */
	FORM_NAMED,	   /* a mapping of names to such mappings */
	FORM_NAMED_VALUES, /* a mapping of names to values, each as the one row key.keys says */
};

enum key_flag {
	KEY_MANY = 1 << 0,     /* one value or a list of them */
	KEY_REQUIRED = 1 << 1, /* the reader of the object insists on it */
	KEY_NULL = 1 << 2,     /* nothing is a value too */
	KEY_NULLS = 1 << 3,    /* FORM_NAMED: also of a name */
	KEY_FILLED = 1 << 4,   /* FORM_NAMED_VALUES: not empty */
};

struct key {
	const char *name;
	/* Read v into the object. 0, -EINVAL with a diagnostic, or -ENOMEM. */
	int (*read)(const struct keys_at *at, const struct key *k, const struct node *v, void *obj);
	size_t offset;		  /* of the value in the object */
	size_t size;		  /* of a string's storage, NUL included; of a list's item */
	size_t n_offset;	  /* of a list's length */
	size_t set_offset;	  /* of the list of sets beside it, and of that one's length */
	size_t n_set_offset;	  /* 0: no sets */
	const char *const *words; /* the words that a value may be, NULL-terminated */
	const char *value;	  /* for help: "PREFIX…" */
	const char *help;
	enum key_form form;
	unsigned flags;		/* enum key_flag */
	size_t max;		/* entries at most, 0: as many as fit */
	const struct key *keys; /* rows of a mapping, or of a named value */
	size_t n_keys;
};

/* Rows for the common kinds of fields. Members that differ come behind: .form = FORM_TOKEN */
#define KEY_STRING(name_, read_, type, field, value_, help_, ...) \
	{ \
		.name = name_, .read = read_, .offset = offsetof(type, field), \
		.size = sizeof(((type *)0)->field), .value = value_, .help = help_, __VA_ARGS__ \
	}
#define KEY_WORD(name_, read_, type, field, words_, value_, help_, ...) \
	{ \
		.name = name_, .read = read_, .offset = offsetof(type, field), \
		.size = sizeof(((type *)0)->field), .words = words_, .value = value_, \
		.help = help_, __VA_ARGS__ \
	}
#define KEY_LIST(name_, read_, type, field, value_, help_, ...) \
	{ \
		.name = name_, .read = read_, .offset = offsetof(type, field), \
		.size = sizeof(((type *)0)->field[0]), .n_offset = offsetof(type, n_##field), \
		.value = value_, .help = help_, .flags = KEY_MANY, __VA_ARGS__ \
	}

#define KEY_SETS(type, field) \
	.set_offset = offsetof(type, field), .n_set_offset = offsetof(type, n_##field)

#define KEYS_MAX 32	    /* rows of one object */
#define KEYS_MAX_LIST 65536 /* items of one list */

/*
 * Read the mapping v into obj by n rows. Bit i of *ret_seen: row i was there. All errors are
 * reported; the result is the last of them.
 */
int keys_read(const struct keys_at *at, const struct key *keys, size_t n, const struct node *v,
	      void *obj, uint32_t *ret_seen);

const struct key *keys_find(const struct key *keys, size_t n, const char *name);

/* Was the key in the mapping? seen is what keys_read() returned. */
bool keys_seen(uint32_t seen, const struct key *keys, size_t n, const char *name);

/* An error about v: always -EINVAL. keys_error_of() says which key of the object it is. */
int keys_error(const struct keys_at *at, const struct node *v, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
int keys_error_of(const struct keys_at *at, const struct key *k, const struct node *v,
		  const char *fmt, ...) __attribute__((format(printf, 4, 5)));
void keys_warn_of(const struct keys_at *at, const struct key *k, const struct node *v,
		  const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* Items of a scalar-or-list: *ret is item i, NULL beyond the end. */
const struct node *keys_item(const struct node *v, size_t i);

/* Readers of fields. */
int key_read_text(const struct keys_at *at, const struct key *k, const struct node *v, void *obj);
int key_read_name(const struct keys_at *at, const struct key *k, const struct node *v, void *obj);
int key_read_cgroup(const struct keys_at *at, const struct key *k, const struct node *v, void *obj);
int key_read_word(const struct keys_at *at, const struct key *k, const struct node *v, void *obj);
int key_read_index(const struct keys_at *at, const struct key *k, const struct node *v, void *obj);
int key_read_bits(const struct keys_at *at, const struct key *k, const struct node *v, void *obj);
int key_read_bool(const struct keys_at *at, const struct key *k, const struct node *v, void *obj);
int key_read_u32(const struct keys_at *at, const struct key *k, const struct node *v, void *obj);
int key_read_rate(const struct keys_at *at, const struct key *k, const struct node *v, void *obj);
int key_read_names(const struct keys_at *at, const struct key *k, const struct node *v, void *obj);
int key_read_prefixes(const struct keys_at *at, const struct key *k, const struct node *v,
		      void *obj);
int key_read_ports(const struct keys_at *at, const struct key *k, const struct node *v, void *obj);
int key_read_uids(const struct keys_at *at, const struct key *k, const struct node *v, void *obj);
int key_read_programs(const struct keys_at *at, const struct key *k, const struct node *v,
		      void *obj);

#endif
