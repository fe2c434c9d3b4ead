// SPDX-License-Identifier: Apache-2.0
/* FD.io DMM's rd_config.json: which stack by destination (ip_route), by protocol (prot_route). */
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/util.h"
#include "policyd/diag.h"
#include "policyd/import_json.h"
#include "policyd/index.h"

struct section {
	const char *name, *key;
	int (*match)(struct import *im, const struct policy_pos *pos, const char *text,
		     struct policy_match *m);
};

static int match_subnet(struct import *im, const struct policy_pos *pos, const char *text,
			struct policy_match *m)
{
	if (!strchr(text, '/'))
		return diag_error_at(&im->diags, pos, "subnet \"%.60s\" has no /LENGTH", text);
	return import_add_prefix(im, pos, text, &m->remote, &m->n_remote);
}

static int match_protocol(struct import *im, const struct policy_pos *pos, const char *text,
			  struct policy_match *m)
{
	if (strcmp(text, "6") == 0)
		m->proto = IPPROTO_TCP;
	else if (strcmp(text, "17") == 0)
		m->proto = IPPROTO_UDP;
	else
		return diag_error_at(&im->diags, pos,
				     "proto_type \"%.60s\" has no equivalent; rules know 6 (tcp) "
				     "and 17 (udp)",
				     text);
	return 0;
}

static const struct section sections[] = {
	{"ip_route", "subnet", match_subnet},
	{"prot_route", "proto_type", match_protocol},
};

/* A scalar of an entry. */
struct value {
	struct policy_pos pos;
	const char *text; /* NULL: not there */
	char number[24];
};

static int read_value(struct import *im, const char *key, const json_t *v, bool number,
		      struct value *ret)
{
	if (number && json_is_integer(v)) {
		snprintf(ret->number, sizeof(ret->number), "%lld",
			 (long long)json_integer_value(v));
		ret->text = ret->number;
		return 0;
	}
	if (!json_is_string(v))
		return diag_error_at(&im->diags, &ret->pos, "\"%s\" must be a text", key);
	ret->text = json_string_value(v);
	return 0;
}

static int unknown_key(struct import *im, const struct policy_pos *pos, const char *key,
		       const char *known, const char *other)
{
	const char *nearest = NULL;
	unsigned best = UINT_MAX;

	if (diag_nearer(key, known, &best))
		nearest = known;
	if (diag_nearer(key, other, &best))
		nearest = other;
	if (nearest)
		return diag_error_at(&im->diags, pos, "unknown key \"%.60s\"; did you mean \"%s\"?",
				     key, nearest);
	return diag_error_at(&im->diags, pos, "unknown key \"%.60s\"; %s and %s are known", key,
			     known, other);
}

/* The keys of one entry; all mistakes are reported. */
static int read_keys(struct import *im, const struct section *s, json_t *entry,
		     struct places *places, struct value *ret_what, struct value *ret_type)
{
	const char *key;
	json_t *v;
	int r = 0;

	json_object_foreach (entry, key, v) {
		bool what = strcmp(key, s->key) == 0;
		struct value *to = what ? ret_what : strcmp(key, "type") == 0 ? ret_type : NULL;
		struct policy_pos pos;
		int e;

		places_next(im, places, &pos);
		if (to)
			places_next(im, places, &to->pos);
		else
			places->next++;
		places_skip(v, places);
		e = to ? read_value(im, key, v, what && s->match == match_protocol, to)
		       : unknown_key(im, &pos, key, s->key, "type");
		r = e < 0 ? e : r;
	}
	return r;
}

struct reader {
	struct places places;
	struct index remote; /* rules by their prefix */
	size_t proto[256];   /* by their protocol, + 1 */
};

/* FD.io DMM overwrites an entry by a later one of the same key: true if this is one. */
static bool replace_duplicate(struct import *im, struct reader *rd, const struct section *s,
			      const struct policy_pos *entry, const struct policy_pos *pos,
			      const struct policy_match *m, const char *use)
{
	struct dmm_policy *p = im->policy;
	struct dmm_rule *old;
	size_t i;

	if (!m->n_remote) {
		if (!rd->proto[m->proto])
			return false;
		i = rd->proto[m->proto] - 1;
	} else if (!index_get(&rd->remote, m->remote, sizeof(*m->remote), &i)) {
		return false;
	}
	old = &p->rules[i];
	diag_warn_at(&im->diags, pos,
		     "this %s is in line %u already; the last one counts, as in FD.io DMM", s->key,
		     old->pos.line);
	old->pos = *entry;
	snprintf(old->use[0], sizeof(old->use[0]), "%s", use);
	return true;
}

/* Takes match over. */
static int add_rule(struct import *im, struct reader *rd, const struct policy_pos *pos,
		    struct policy_match *match, const char *use)
{
	struct dmm_policy *p = im->policy;
	size_t before = p->n_rules;
	dmm_u8 proto = match->proto;
	int r = import_add_rule(im, pos, match, use);

	if (p->n_rules == before)
		return r;
	if (!p->rules[before].match.n_remote) {
		rd->proto[proto] = before + 1;
		return r;
	}
	if (index_put(&rd->remote, p->rules[before].match.remote, sizeof(struct policy_prefix),
		      before, NULL) < 0)
		return -ENOMEM;
	return r;
}

static int read_entry(struct import *im, const struct section *s, json_t *entry,
		      const struct policy_pos *pos, struct reader *rd)
{
	struct places *places = &rd->places;
	struct value what = {0}, type = {0};
	struct policy_match match = {0};
	struct dmm_rule none = {0};
	char use[DMM_NAME_LEN];
	int r;

	if (!json_is_object(entry)) {
		places_skip(entry, places);
		return diag_error_at(&im->diags, pos, "an entry of %s must be {\"%s\", \"type\"}",
				     s->name, s->key);
	}
	r = read_keys(im, s, entry, places, &what, &type);
	if (r < 0)
		return r;
	if (!what.text || !type.text)
		return diag_error_at(&im->diags, pos, "this entry of %s has no \"%s\"", s->name,
				     what.text ? "type" : s->key);
	r = s->match(im, &what.pos, what.text, &match);
	if (r == 0)
		r = import_stack(im, &type.pos, type.text, use);
	if (r == 0 && !replace_duplicate(im, rd, s, pos, &what.pos, &match, use))
		return add_rule(im, rd, pos, &match, use);
	none.match = match;
	policy_rule_fini(&none);
	return r;
}

static int read_section(struct import *im, const struct section *s, json_t *list,
			const struct policy_pos *pos, struct reader *rd)
{
	struct places *places = &rd->places;
	struct policy_pos at;
	json_t *entry;
	int r = 0, e;
	size_t i;

	if (!json_is_array(list)) {
		places_skip(list, places);
		return diag_error_at(&im->diags, pos, "\"%s\" must be a list", s->name);
	}
	json_array_foreach (list, i, entry) {
		places_next(im, places, &at);
		e = read_entry(im, s, entry, &at, rd);
		if (e == -ENOMEM)
			return e;
		r = e < 0 ? e : r;
	}
	return r;
}

static const struct section *section_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(sections); i++)
		if (strcmp(sections[i].name, name) == 0)
			return &sections[i];
	return NULL;
}

static int read_root(struct import *im, json_t *root, struct reader *rd)
{
	struct places *places = &rd->places;
	struct policy_pos begin, key_pos, pos;
	const char *key;
	json_t *v;
	int r = 0, e;

	places_next(im, places, &begin);
	if (!json_is_object(root))
		return diag_error_at(&im->diags, &begin, "must be {\"ip_route\", \"prot_route\"}");
	json_object_foreach (root, key, v) {
		const struct section *s = section_find(key);

		places_next(im, places, &key_pos);
		places_next(im, places, &pos);
		if (s) {
			e = read_section(im, s, v, &pos, rd);
		} else {
			places_skip(v, places);
			e = unknown_key(im, &key_pos, key, sections[0].name, sections[1].name);
		}
		if (e == -ENOMEM)
			return e;
		r = e < 0 ? e : r;
	}
	for (size_t i = 0; i < ARRAY_SIZE(sections); i++)
		if (!json_object_get(root, sections[i].name))
			r = diag_error_at(&im->diags, &begin,
					  "there is no \"%s\"; FD.io DMM wants it, if only as []",
					  sections[i].name);
	return r;
}

/* ip_route before prot_route, the longest prefix first, else as in the file. */
static int by_precedence(const void *x, const void *y)
{
	const struct dmm_rule *a = x, *b = y;
	int plen_a = a->match.n_remote ? a->match.remote[0].plen : -1;
	int plen_b = b->match.n_remote ? b->match.remote[0].plen : -1;

	if (plen_a != plen_b)
		return plen_a > plen_b ? -1 : 1;
	if (a->pos.line != b->pos.line)
		return a->pos.line < b->pos.line ? -1 : 1;
	return a->pos.column < b->pos.column ? -1 : a->pos.column > b->pos.column;
}

int import_rd(struct import *im, char *text, size_t len)
{
	struct reader rd = {0};
	json_error_t error;
	json_t *root;
	int r = places_scan(im, text, len, &rd.places);

	if (r == 0) {
		root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
		if (root)
			r = read_root(im, root, &rd);
		else
			r = diag_error(&im->diags, im->file, (unsigned)MAX(error.line, 0),
				       (unsigned)MAX(error.column, 0), "%s", error.text);
		json_decref(root);
	}
	if (im->policy->n_rules)
		qsort(im->policy->rules, im->policy->n_rules, sizeof(im->policy->rules[0]),
		      by_precedence);
	free(rd.places.list);
	index_fini(&rd.remote);
	return r;
}
