// SPDX-License-Identifier: Apache-2.0
/* The words of a command line as the nodes that a file would give: one reader for both. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "policyd/ctl.h"
#include "policyd/diag.h"
#include "policyd/policy_keys.h"

/* "a,b" as a list, "a" as a scalar. */
static struct node *value_node(const char *text)
{
	struct node *list;

	if (!strchr(text, ','))
		return node_new_scalar(text, 0, 0);
	list = node_new(NODE_LIST, 0, 0);
	while (list) {
		size_t len = strcspn(text, ",");
		char *item = strndup(text, len);
		int r = item ? node_add(list, node_new_scalar(item, 0, 0)) : -ENOMEM;

		free(item);
		if (r < 0) {
			node_free(list);
			return NULL;
		}
		if (!text[len])
			break;
		text += len + 1;
	}
	return list;
}

/* Add "key: value" to a mapping; takes value over, also on failure. */
static int add_pair(struct node *map, const char *key, struct node *value)
{
	int r = value ? node_add(map, node_new_scalar(key, 0, 0)) : -ENOMEM;

	if (r == 0)
		return node_add(map, value);
	node_free(value);
	return -ENOMEM;
}

/* "edge0:5,kernel:95" as a mapping. What has no ":" has no value, which the reader complains of. */
static struct node *map_node(const char *text)
{
	struct node *map = node_new(NODE_MAP, 0, 0);

	while (map) {
		size_t len = strcspn(text, ","), name = strcspn(text, ":,");
		char *key = strndup(text, name), *value = NULL;
		int r = -ENOMEM;

		if (len > name)
			value = strndup(text + name + 1, len - name - 1);
		if (key)
			r = add_pair(map, key, node_new_scalar(value ? value : "", 0, 0));
		free(key);
		free(value);
		if (r < 0) {
			node_free(map);
			return NULL;
		}
		if (!text[len])
			break;
		text += len + 1;
	}
	return map;
}

/* A rule as it grows from words; match and use become its keys at the end. */
struct words {
	struct node *rule, *match, *use;
	struct ctl_place *place;
	struct policy_diags *diags;
};

static int unknown_word(const char *word, struct policy_diags *diags)
{
	const char *nearest = NULL;
	unsigned best = UINT_MAX;

	for (size_t i = 0; i < POLICY_MATCH_KEYS; i++)
		if (diag_nearer(word, policy_match_keys[i].name, &best))
			nearest = policy_match_keys[i].name;
	for (size_t i = 0; i < POLICY_RULE_KEYS; i++)
		if (strcmp(policy_rule_keys[i].name, "match") != 0 &&
		    diag_nearer(word, policy_rule_keys[i].name, &best))
			nearest = policy_rule_keys[i].name;
	for (size_t i = 0; i < POLICY_USE_KEYS; i++)
		if (diag_nearer(word, policy_use_keys[i].name, &best))
			nearest = policy_use_keys[i].name;
	if (nearest)
		return diag_error(diags, "", 0, 0, "unknown word \"%s\"; did you mean \"%s\"?",
				  word, nearest);
	return diag_error(diags, "", 0, 0,
			  "unknown word \"%.60s\"; see dmm-policy help keys for those of a rule",
			  word);
}

/* What a key is of; NULL: no such key. */
static struct node *key_home(const struct words *w, const char *key)
{
	if (keys_find(policy_match_keys, POLICY_MATCH_KEYS, key))
		return w->match;
	if (keys_find(policy_use_keys, POLICY_USE_KEYS, key))
		return w->use;
	if (strcmp(key, "match") != 0 && keys_find(policy_rule_keys, POLICY_RULE_KEYS, key))
		return w->rule;
	return NULL;
}

/* One key of the rule, its match or its use; "use weights=a:1" and "use auto=a,b" are those of use.
 */
static int put_key(const struct words *w, const char *key, const char *value)
{
	const struct key *row = NULL;
	char inner[DMM_NAME_LEN];
	struct node *to;

	if (strcmp(key, "use") == 0 && value && strchr(value, '=')) {
		snprintf(inner, sizeof(inner), "%.*s", (int)strcspn(value, "="), value);
		row = keys_find(policy_use_keys, POLICY_USE_KEYS, inner);
	}
	if (row) {
		key = row->name;
		value = strchr(value, '=') + 1;
	}
	to = key_home(w, key);
	if (!to)
		return unknown_word(key, w->diags);
	if (!value)
		return diag_error(w->diags, "", 0, 0, "\"%s\" needs a value", key);
	if (node_get(to, key))
		return diag_error(w->diags, "", 0, 0,
				  "\"%s\" is there twice; separate its values by commas", key);
	row = keys_find(policy_use_keys, POLICY_USE_KEYS, key);
	if (row && row->keys)
		return add_pair(to, key, map_node(value));
	return add_pair(to, key, value_node(value));
}

static int put_place(const char *word, const char *rule, struct ctl_place *ret,
		     struct policy_diags *diags)
{
	static const struct {
		const char *word;
		int where;
		bool of_rule;
	} places[] = {
		{"first", PLACE_FIRST, false},
		{"last", PLACE_LAST, false},
		{"before", PLACE_BEFORE, true},
		{"after", PLACE_AFTER, true},
	};

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		if (strcmp(places[i].word, word) != 0)
			continue;
		if (ret->where != PLACE_NONE)
			return diag_error(diags, "", 0, 0, "\"%s\": a second place for the rule",
					  word);
		if (places[i].of_rule && !rule)
			return diag_error(diags, "", 0, 0, "\"%s\" needs the name of a rule", word);
		ret->where = places[i].where;
		ret->rule = places[i].of_rule ? rule : NULL;
		return places[i].of_rule ? 2 : 1;
	}
	return 0;
}

/* The words from argv[0]; returns how many were taken, or -errno. */
static int take_word(int argc, char **argv, const struct words *w)
{
	const char *next = argc > 1 ? argv[1] : NULL;
	char *equals = strchr(argv[0], '='), *key;
	int r;

	if (equals) {
		key = strndup(argv[0], (size_t)(equals - argv[0]));
		r = key ? put_key(w, key, equals + 1) : -ENOMEM;
		free(key);
		return r < 0 ? r : 1;
	}
	if (strcmp(argv[0], "strict") == 0 || strcmp(argv[0], "capture") == 0 ||
	    strcmp(argv[0], "telemetry") == 0) {
		r = put_key(w, argv[0], "true");
		return r < 0 ? r : 1;
	}
	r = put_place(argv[0], next, w->place, w->diags);
	if (r != 0)
		return r;
	r = put_key(w, argv[0], next);
	return r < 0 ? r : 2;
}

/* The children of a mapping move into the rule, if there are any; it stays as an empty mapping. */
static int move_into(struct node *rule, const char *key, struct node *map)
{
	struct node *copy;

	if (!map->n)
		return 0;
	copy = node_new(NODE_MAP, 0, 0);
	if (!copy)
		return -ENOMEM;
	copy->child = map->child;
	copy->n = map->n;
	map->child = NULL;
	map->n = 0;
	return add_pair(rule, key, copy);
}

static int words_nodes(int argc, char **argv, const struct words *w)
{
	int i = 0, r = 0;

	if (argc && !strchr(argv[0], '=')) {
		r = put_key(w, "name", argv[0]);
		i = 1;
	}
	while (r == 0 && i < argc) {
		int n = take_word(argc - i, argv + i, w);

		if (n < 0)
			r = n;
		else
			i += n;
	}
	if (r == 0 && w->use->n && node_get(w->rule, "use"))
		r = diag_error(w->diags, "", 0, 0,
			       "\"use\" is there twice; separate its values by commas");
	if (r == 0)
		r = move_into(w->rule, "use", w->use);
	if (r == 0)
		r = move_into(w->rule, "match", w->match);
	return r;
}

int ctl_words_rule(int argc, char **argv, struct dmm_rule *ret, struct ctl_place *ret_place,
		   struct policy_diags *diags)
{
	struct words w = {node_new(NODE_MAP, 0, 0), node_new(NODE_MAP, 0, 0),
			  node_new(NODE_MAP, 0, 0), ret_place, diags};
	int r = -ENOMEM;

	*ret = (struct dmm_rule){0};
	*ret_place = (struct ctl_place){0};
	if (w.rule && w.match && w.use)
		r = words_nodes(argc, argv, &w);
	if (r == 0 && !node_get(w.rule, "name"))
		r = diag_error(diags, "", 0, 0, "the rule needs a name");
	if (r == 0)
		r = policy_read_rule("", diags, w.rule, 1, ret);
	ret->origin = DMM_ORIGIN_OPERATOR; /* whatever it says: it is added by hand */
	node_free(w.rule);
	node_free(w.match);
	node_free(w.use);
	return r;
}
