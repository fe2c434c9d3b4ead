// SPDX-License-Identifier: Apache-2.0
/*
 * The policy language as a JSON Schema (draft 7), for editors: made from the rows that the parser
 * reads by. It refuses nothing that the parser takes, but for names that YAML reads as true or
 * false. What it cannot say (bits beyond a prefix, 90-80, one name twice) is left to the parser.
 */
#include <limits.h>

#include "lib/base/util.h"
#include "policyd/ctl.h"
#include "policyd/policy_read.h"

#define CONTROL "\\u0000-\\u001f\\u007f"
#define OCTET "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
#define IPV4 "(" OCTET "\\.){3}" OCTET
#define IPV6 "(?!.*::.*::)(?!.*:::)([0-9A-Fa-f]{0,4}:){2,8}([0-9A-Fa-f]{0,4}|" IPV4 ")"
#define PORT \
	"(0*(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3}" \
	")" \
	"|0[xX]0*[1-9A-Fa-f][0-9A-Fa-f]{0,3})"
#define PREFIX IPV4 "(/0*(3[0-2]|[12]?[0-9]))?|" IPV6 "(/0*(12[0-8]|1[01][0-9]|[1-9]?[0-9]))?"
#define URL_PORT \
	"(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3})"
#define PORTS PORT "(-" PORT ")?"
#define SET "[A-Za-z_][A-Za-z0-9_.-]{0,30}"
#define UINT "(0*[0-9]{1,10}|0[xX]0*[0-9A-Fa-f]{1,8})"

/* What a scalar may be. YAML makes numbers of some words: these are the JSON types that it may have
 * then, beside string. */
static const struct scalar {
	enum key_form form;
	bool sized; /* no longer than the storage */
	const char *pattern;
	const char *other;   /* type beside string, NULL: none */
	json_int_t min, max; /* of a number; both 0: any */
} scalars[] = {
	{FORM_TEXT, true, "^[^" CONTROL "]*$", "number", 0, 0},
	{FORM_NAME, true, "^[A-Za-z0-9_][A-Za-z0-9_.-]*$", "number", 0, LLONG_MAX},
	{FORM_TOKEN, true, "^(?!\\.{1,2}$)[^" CONTROL " /:\\\\]+$", "number", 0, 0},
	{FORM_PATH, true, "^(?!/*$)(?!(.*/)?\\.{1,2}(/|$))[^" CONTROL "]+$", "number", 0, 0},
	{FORM_ENDPOINT, true, "^(" IPV4 "|\\[" IPV6 "\\]):" PORT "$", NULL, 0, 0},
	{FORM_URL, true, "^https?://([A-Za-z0-9_.-]{1,64}|\\[[0-9A-Fa-f:.]{2,62}\\]):" URL_PORT "$",
	 NULL, 0, 0},
	{FORM_FILE, true, "^/[^" CONTROL "]*$", NULL, 0, 0},
	{FORM_KEYS, true, "^/[A-Za-z0-9_./-]*[A-Za-z0-9_.-]$", NULL, 0, 0},
	{FORM_HOST, true, "^[A-Za-z0-9_][A-Za-z0-9_.-]*$", "number", 0, LLONG_MAX},
	{FORM_NUMBER, false, "^(0*[0-9]{1,10}|0[xX]0*[0-9A-Fa-f]{1,8})$", "integer", 0, UINT_MAX},
	{FORM_RATE, false, "^(?=.*[1-9])[0-9]{1,18}(\\.[0-9]{0,9})?([TtGgMmKk]?[Bb][Ii][Tt])?$",
	 "number", 1, LLONG_MAX},
	{FORM_BOOL, false,
	 "^([Tt][Rr][Uu][Ee]|[Ff][Aa][Ll][Ss][Ee]|[Yy][Ee][Ss]|[Nn][Oo]|[Oo][Nn]|[Oo][Ff][Ff])$",
	 "boolean", 0, 0},
	{FORM_PREFIX, false, "^(" PREFIX "|" SET ")$", NULL, 0, 0},
	{FORM_PORTS, false, "^(" PORTS "|" SET ")$", "integer", 1, 65535},
	{FORM_SET_PREFIX, false, "^(" PREFIX ")$", NULL, 0, 0},
	{FORM_SET_PORTS, false, "^" PORTS "$", "integer", 1, 65535},
	{FORM_SET_NAME, false, "^" SET "$", NULL, 0, 0},
	{FORM_UIDS, false, "^(" UINT "(-" UINT ")?|" SET ")$", "integer", 0, UINT_MAX - 1},
	{FORM_PROGRAM, true, "^[ -+.0-~-]+$", "number", 0, 0},
	{FORM_WEIGHT, false, "^(0*[0-9]{1,5}|0[xX]0*[0-9A-Fa-f]{1,4})$", "integer", 0, 65535},
	{FORM_DURATION, false, "^[0-9]{1,11}(us|ms|s|m|h)$", NULL, 0, 0},
	{FORM_GAIN, false, "^0{0,3}([0-9]{1,3}|1000)%?$", "integer", 0, NRD_MIN_GAIN_MAX},
	{FORM_CANARY, false, "^0{0,4}([1-9]|[1-4][0-9]|50)%?$", "integer", 1, NRD_CANARY_MAX},
	{FORM_VERSION, false, "^(0*1|0[xX]0*1)$", "integer", 1, 1},
};

/* What the readers of keys.h take. */
static const struct {
	int (*read)(const struct keys_at *at, const struct key *k, const struct node *v, void *obj);
	enum key_form form;
	unsigned flags;
} readers[] = {
	{key_read_text, FORM_TEXT, 0},
	{key_read_name, FORM_NAME, 0},
	{key_read_cgroup, FORM_PATH, 0},
	{key_read_bits, FORM_WORD, KEY_MANY},
	{key_read_bool, FORM_BOOL, 0},
	{key_read_u32, FORM_NUMBER, 0},
	{key_read_rate, FORM_RATE, 0},
	{key_read_names, FORM_NAME, KEY_MANY},
	{key_read_prefixes, FORM_PREFIX, KEY_MANY},
	{key_read_ports, FORM_PORTS, KEY_MANY},
	{key_read_uids, FORM_UIDS, KEY_MANY},
	{key_read_programs, FORM_PROGRAM, KEY_MANY},
};

static void set(json_t *o, const char *key, json_t *value)
{
	json_object_set_new(o, key, value);
}

static enum key_form key_form(const struct key *k, unsigned *ret_flags)
{
	*ret_flags = k->flags;
	for (size_t i = 0; i < ARRAY_SIZE(readers); i++)
		if (readers[i].read == k->read) {
			*ret_flags |= readers[i].flags;
			return k->form ? k->form : readers[i].form;
		}
	return k->form ? k->form : k->words ? FORM_WORD : FORM_BY_READER;
}

static json_t *type_or_null(const char *type, bool null)
{
	return null ? json_pack("[s, s]", type, "null") : json_string(type);
}

/* ---- scalars ---- */

static json_t *schema_words(const char *const *words)
{
	json_t *list = json_array();

	for (; *words; words++)
		json_array_append_new(list, json_string(*words));
	return json_pack("{s:o}", "enum", list);
}

static json_t *schema_scalar(enum key_form form, size_t size)
{
	const struct scalar *s = NULL;
	json_t *o = json_object();

	for (size_t i = 0; i < ARRAY_SIZE(scalars); i++)
		if (scalars[i].form == form)
			s = &scalars[i];
	if (!s) { /* nothing is refused; a test finds it */
		set(o, "$comment", json_string("a key without a form: see enum key_form"));
		return o;
	}
	set(o, "type", s->other ? json_pack("[s, s]", "string", s->other) : json_string("string"));
	set(o, "pattern", json_string(s->pattern));
	if (s->sized)
		set(o, "maxLength", json_integer((json_int_t)size - 1));
	if (s->min || s->max)
		set(o, "minimum", json_integer(s->min));
	if (s->max && s->max != LLONG_MAX)
		set(o, "maximum", json_integer(s->max));
	return o;
}

static json_t *schema_item(const struct key *k, enum key_form form)
{
	if (form == FORM_WORD)
		return schema_words(k->words);
	return schema_scalar(form, form == FORM_NAME ? DMM_NAME_LEN : k->size);
}

static json_t *schema_map(const struct key *keys, size_t n, bool null);

/* One item, or a list that is not empty; or the mapping that the row has beside them. */
static json_t *schema_many(const struct key *k, enum key_form form)
{
	json_int_t max = (json_int_t)(k->max ? k->max : KEYS_MAX_LIST);
	json_t *o = json_pack("{s:[o, {s:s, s:o, s:i, s:I}]}", "anyOf", schema_item(k, form),
			      "type", "array", "items", schema_item(k, form), "minItems", 1,
			      "maxItems", max);

	if (k->keys)
		json_array_append_new(json_object_get(o, "anyOf"),
				      schema_map(k->keys, k->n_keys, false));
	return o;
}

/* All of a set are prefixes, or all are ports. */
static json_t *schema_set(const struct key *k)
{
	json_t *prefixes = schema_many(k, FORM_SET_PREFIX), *ports = schema_many(k, FORM_SET_PORTS);

	json_array_extend(json_object_get(prefixes, "anyOf"), json_object_get(ports, "anyOf"));
	json_decref(ports);
	return prefixes;
}

/* ---- mappings ---- */

static json_t *schema_maps(const struct key *k, unsigned flags)
{
	json_t *o = json_object();

	set(o, "type", type_or_null("array", flags & KEY_NULL));
	if (k->max)
		set(o, "maxItems", json_integer((json_int_t)k->max));
	set(o, "items", schema_map(k->keys, k->n_keys, false));
	return o;
}

static json_t *schema_key(const struct key *k);

static json_t *schema_named(const struct key *k, enum key_form form, unsigned flags)
{
	json_t *o = json_object();

	set(o, "type", type_or_null("object", flags & KEY_NULL));
	if (k->max)
		set(o, "maxProperties", json_integer((json_int_t)k->max));
	if (flags & KEY_FILLED)
		set(o, "minProperties", json_integer(1));
	set(o, "propertyNames",
	    schema_scalar(k->keys->form == FORM_SET ? FORM_SET_NAME : FORM_NAME, DMM_NAME_LEN));
	set(o, "additionalProperties",
	    form == FORM_NAMED ? schema_map(k->keys, k->n_keys, flags & KEY_NULLS)
			       : schema_key(k->keys));
	return o;
}

static json_t *schema_key(const struct key *k)
{
	json_t *o = json_pack("{s:s}", "description", k->help), *value;
	unsigned flags;
	enum key_form form = key_form(k, &flags);

	if (form == FORM_MAP)
		value = schema_map(k->keys, k->n_keys, flags & KEY_NULL);
	else if (form == FORM_MAPS)
		value = schema_maps(k, flags);
	else if (form == FORM_NAMED || form == FORM_NAMED_VALUES)
		value = schema_named(k, form, flags);
	else if (form == FORM_SET)
		value = schema_set(k);
	else if (flags & KEY_MANY)
		value = schema_many(k, form);
	else
		value = schema_item(k, form);
	json_object_update(o, value);
	json_decref(value);
	return o;
}

/* {"engine": false, …}: these keys must not be there. */
static json_t *schema_without(const char *const *keys)
{
	json_t *o = json_object();

	for (; *keys; keys++)
		set(o, *keys, json_false());
	return json_pack("{s:o}", "properties", o);
}

/* What stack_settle() wants of a stack. */
static void set_kinds(json_t *o)
{
	json_t *user = schema_without(policy_kernel_only);

	set(user, "required", json_pack("[s, s]", "engine", "port"));
	set(o, "if",
	    json_pack("{s:{s:{s:s}}, s:[s]}", "properties", "kind", "const", "kernel", "required",
		      "kind"));
	set(o, "then", schema_without(policy_user_only));
	set(o, "else", user);
}

/* What use_settle() wants: weights alone, or auto with its settings. */
static void set_use(json_t *o)
{
	json_t *alone = json_pack("{s:[s], s:i}", "required", "weights", "maxProperties", 1);
	json_t *with =
		json_pack("{s:[s], s:{s:b}}", "required", "auto", "properties", "weights", 0);

	set(o, "oneOf", json_pack("[o, o]", alone, with));
}

static json_t *schema_map(const struct key *keys, size_t n, bool null)
{
	json_t *properties, *required, *o;

	if (!n)
		return schema_scalar(FORM_BY_READER, 0);
	properties = json_object();
	required = json_array();
	o = json_object();
	for (size_t i = 0; i < n; i++) {
		set(properties, keys[i].name, schema_key(&keys[i]));
		if (keys[i].flags & KEY_REQUIRED)
			json_array_append_new(required, json_string(keys[i].name));
	}
	set(o, "type", type_or_null("object", null));
	set(o, "properties", properties);
	set(o, "additionalProperties", json_false());
	if (json_array_size(required))
		json_object_set(o, "required", required);
	json_decref(required);
	if (keys == policy_stack_keys)
		set_kinds(o);
	if (keys == policy_use_keys)
		set_use(o);
	if (keys == policy_sla_keys) {
		set(o, "minProperties", json_integer(1));
		set(o, "maxProperties", json_integer(1));
	}
	if (keys == policy_rule_keys) /* as policy_read_rule() wants it: one of them */
		set(o, "oneOf",
		    json_pack("[{s:[s]}, {s:[s]}]", "required", "use", "required", "reject"));
	return o;
}

json_t *ctl_schema(void)
{
	const struct policy_object *file = &policy_objects[0];
	json_t *o = json_pack("{s:s, s:s}", "$schema", "http://json-schema.org/draft-07/schema#",
			      "title", "DMM policy"),
	       *map = schema_map(file->keys, file->n, true);

	json_object_update(o, map);
	json_decref(map);
	return o;
}
