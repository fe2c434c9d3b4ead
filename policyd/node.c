// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <yaml.h>

#include "policyd/diag.h"
#include "policyd/node.h"

struct node *node_new(enum node_type type, unsigned line, unsigned column)
{
	struct node *n = calloc(1, sizeof(*n));

	if (n) {
		n->type = type;
		n->line = line;
		n->column = column;
	}
	return n;
}

struct node *node_new_scalar(const char *value, unsigned line, unsigned column)
{
	size_t len = strlen(value) + 1;
	struct node *n = malloc(sizeof(*n) + len);

	if (!n)
		return NULL;
	*n = (struct node){.type = NODE_SCALAR, .line = line, .column = column};
	n->value = memcpy(n + 1, value, len);
	return n;
}

void node_free(struct node *n)
{
	if (!n)
		return;
	for (size_t i = 0; i < n->n; i++)
		node_free(n->child[i]);
	free(n->child);
	free(n);
}

int node_add(struct node *parent, struct node *child)
{
	if (!child)
		return -EINVAL;
	/* Room doubles: at sizes that are powers of two it is used up. */
	if ((parent->n & (parent->n - 1)) == 0) {
		size_t room = parent->n ? parent->n * 2 : 1;
		struct node **list = realloc(parent->child, room * sizeof(struct node *));

		if (!list) {
			node_free(child);
			return -ENOMEM;
		}
		parent->child = list;
	}
	parent->child[parent->n++] = child;
	return 0;
}

struct node *node_get(const struct node *map, const char *key)
{
	if (map->type != NODE_MAP)
		return NULL;
	for (size_t i = 0; i + 1 < map->n; i += 2)
		if (strcmp(map->child[i]->value, key) == 0)
			return map->child[i + 1];
	return NULL;
}

bool node_is_null(const struct node *n)
{
	return n->type == NODE_SCALAR && n->plain &&
	       (n->value[0] == '\0' || strcmp(n->value, "~") == 0 ||
		strcasecmp(n->value, "null") == 0);
}

/* ---- YAML events to nodes ---- */

struct reader {
	const char *file, *text;
	size_t len;
	yaml_parser_t parser;
	struct policy_diags *diags;
	struct node *open[NODE_MAX_DEPTH]; /* collections not yet ended, outermost first */
	size_t depth, nodes;
	struct node *root;
	unsigned documents;
};

static int reader_error(struct reader *r, const yaml_mark_t *mark, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static int reader_error(struct reader *r, const yaml_mark_t *mark, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	diag_addv(r->diags, true, r->file, (unsigned)mark->line + 1, (unsigned)mark->column + 1,
		  fmt, ap);
	va_end(ap);
	return -EINVAL;
}

static int reader_syntax(struct reader *r)
{
	const yaml_parser_t *p = &r->parser;
	const char *context = p->context ? p->context : "";

	if (p->error == YAML_MEMORY_ERROR)
		return -ENOMEM;
	if (p->error == YAML_READER_ERROR) { /* comes with an offset instead of a mark */
		yaml_mark_t mark = {0};

		for (size_t i = 0; i < p->problem_offset && i < r->len; i++)
			mark.line += r->text[i] == '\n';
		return reader_error(r, &mark, "not UTF-8 text: %s", p->problem);
	}
	return reader_error(r, &p->problem_mark, "not YAML: %s%s%s", context, *context ? ", " : "",
			    p->problem ? p->problem : "syntax error");
}

static int reader_place(struct reader *r, struct node *n, const yaml_mark_t *mark)
{
	struct node *top;

	if (!n)
		return -ENOMEM;
	if (r->depth == 0) {
		r->root = n;
		return 0;
	}
	top = r->open[r->depth - 1];
	if (top->type == NODE_MAP && top->n % 2 == 0 && n->type != NODE_SCALAR) {
		node_free(n);
		return reader_error(r, mark, "a key must be a word, not a list or a mapping");
	}
	return node_add(top, n);
}

static int reader_scalar(struct reader *r, const yaml_event_t *e)
{
	const char *value = (const char *)e->data.scalar.value;
	struct node *n;

	if (memchr(value, '\0', e->data.scalar.length))
		return reader_error(r, &e->start_mark, "text with a NUL character");
	n = node_new_scalar(value, (unsigned)e->start_mark.line + 1,
			    (unsigned)e->start_mark.column + 1);
	if (n)
		n->plain = e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	return reader_place(r, n, &e->start_mark);
}

static int reader_open(struct reader *r, const yaml_event_t *e)
{
	enum node_type type = e->type == YAML_MAPPING_START_EVENT ? NODE_MAP : NODE_LIST;
	struct node *n;
	int err;

	if (r->depth == NODE_MAX_DEPTH)
		return reader_error(r, &e->start_mark, "nested deeper than %d levels",
				    NODE_MAX_DEPTH);
	n = node_new(type, (unsigned)e->start_mark.line + 1, (unsigned)e->start_mark.column + 1);
	err = reader_place(r, n, &e->start_mark);
	if (err < 0)
		return err;
	r->open[r->depth++] = n;
	return 0;
}

static const char *event_tag(const yaml_event_t *e)
{
	switch (e->type) {
	case YAML_SCALAR_EVENT:
		return (const char *)e->data.scalar.tag;
	case YAML_SEQUENCE_START_EVENT:
		return (const char *)e->data.sequence_start.tag;
	case YAML_MAPPING_START_EVENT:
		return (const char *)e->data.mapping_start.tag;
	default:
		return NULL;
	}
}

static int reader_event(struct reader *r, const yaml_event_t *e)
{
	if (event_tag(e))
		return reader_error(r, &e->start_mark, "tags (\"%s\") are not supported",
				    event_tag(e));
	if (++r->nodes > NODE_MAX_NODES)
		return reader_error(r, &e->start_mark, "more than %d values", NODE_MAX_NODES);
	switch (e->type) {
	case YAML_DOCUMENT_START_EVENT:
		if (r->documents++ > 0)
			return reader_error(r, &e->start_mark,
					    "a second document; put everything into one, or "
					    "into files of policy.d");
		return 0;
	case YAML_ALIAS_EVENT:
		return reader_error(r, &e->start_mark,
				    "aliases (\"*%s\") are not supported; write the value again",
				    (const char *)e->data.alias.anchor);
	case YAML_SCALAR_EVENT:
		return reader_scalar(r, e);
	case YAML_SEQUENCE_START_EVENT:
	case YAML_MAPPING_START_EVENT:
		return reader_open(r, e);
	case YAML_SEQUENCE_END_EVENT:
	case YAML_MAPPING_END_EVENT:
		r->depth--;
		return 0;
	default:
		return 0;
	}
}

static int reader_run(struct reader *r)
{
	bool end = false;
	int err = 0;

	while (err == 0 && !end) {
		yaml_event_t e;

		if (!yaml_parser_parse(&r->parser, &e))
			return reader_syntax(r);
		end = e.type == YAML_STREAM_END_EVENT;
		err = reader_event(r, &e);
		yaml_event_delete(&e);
	}
	return err;
}

int node_parse(const char *file, const char *text, size_t len, struct node **ret,
	       struct policy_diags *reterr)
{
	struct reader r = {.file = file, .text = text, .len = len, .diags = reterr};
	int err;

	*ret = NULL;
	if (len > NODE_MAX_BYTES)
		return diag_error(reterr, file, 0, 0, "larger than %d bytes", NODE_MAX_BYTES);
	if (!yaml_parser_initialize(&r.parser))
		return -ENOMEM;
	yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, len);
	err = reader_run(&r);
	yaml_parser_delete(&r.parser);
	if (err < 0) {
		node_free(r.root);
		return err;
	}
	if (r.root && node_is_null(r.root)) {
		node_free(r.root);
		r.root = NULL;
	}
	*ret = r.root;
	return 0;
}
