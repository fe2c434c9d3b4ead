// SPDX-License-Identifier: Apache-2.0
/* First all of it is read, and then all of it is told: nothing of a document that is refused. */
#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <string.h>

#include "lib/base/addr.h"
#include "lib/base/util.h"
#include "policyd/nrd/document.h"

struct advice {
	unsigned rule, stack;
	bool has_remote, elsewhere;
	dmm_u8 remote[16];
};

struct document {
	const struct nrd *n;
	char *err; /* of 256 */
	struct report *report;
	size_t n_reports;
	struct advice *advice;
	size_t n_advice;
	const char *host;
	dmm_u64 sequence, issued;
	document_elsewhere_fn elsewhere; /* NULL: every rule has to be known */
	void *ctx;
};

__attribute__((format(printf, 2, 3))) static int refuse(const struct document *d, const char *fmt,
							...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(d->err, 256, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

/* ---- values ---- */

/* All keys of o are among these, NULL-terminated. */
static int known_keys(const struct document *d, const json_t *o, const char *what,
		      const char *const *keys)
{
	const char *key;
	json_t *v;

	if (!json_is_object(o))
		return refuse(d, "%s is no object", what);
	json_object_foreach ((json_t *)o, key, v) {
		const char *const *k = keys;

		while (*k && strcmp(*k, key) != 0)
			k++;
		if (!*k)
			return refuse(d, "%s has an unknown key \"%.40s\"", what, key);
	}
	return 0;
}

/* A whole number from 0 to max; 0 if the key is not there. */
static int number(const struct document *d, const json_t *o, const char *key, dmm_u64 max,
		  dmm_u64 *ret)
{
	const json_t *v = json_object_get(o, key);

	*ret = 0;
	if (!v)
		return 0;
	if (!json_is_integer(v) || json_integer_value(v) < 0 ||
	    (dmm_u64)json_integer_value(v) > max)
		return refuse(d, "\"%s\" is no whole number from 0 to %llu", key, max);
	*ret = (dmm_u64)json_integer_value(v);
	return 0;
}

static int text(const struct document *d, const json_t *o, const char *key, size_t size,
		const char **ret)
{
	const json_t *v = json_object_get(o, key);

	if (!json_is_string(v) || !*json_string_value(v) || json_string_length(v) >= size)
		return refuse(d, "\"%s\" is no text of 1 to %zu bytes", key, size - 1);
	*ret = json_string_value(v);
	return 0;
}

/* "rule" and "stack": only what the operator left to nRD, and from the list that he gave it. */
static int choice(const struct document *d, const json_t *o, unsigned *ret_rule,
		  unsigned *ret_stack)
{
	const char *rule, *stack;
	const struct nrd_rule *c;
	int r = text(d, o, "rule", DMM_NAME_LEN, &rule), at;

	if (r == 0)
		r = text(d, o, "stack", DMM_NAME_LEN, &stack);
	if (r < 0)
		return r;
	at = nrd_find(d->n, rule);
	if (at < 0)
		return refuse(d, "rule \"%s\" was not left to nRD", rule);
	c = nrd_rule(d->n, (size_t)at);
	*ret_rule = (unsigned)at;
	for (*ret_stack = 0; *ret_stack < c->n_stacks; ++*ret_stack)
		if (strcmp(c->stack[*ret_stack], stack) == 0)
			return 0;
	return refuse(d, "stack \"%s\" is not in the list of rule \"%s\"", stack, rule);
}

static int address(const struct document *d, const json_t *o, dmm_u8 ret[16])
{
	const char *word;
	int r = text(d, o, "remote", ADDR_STRLEN, &word);

	if (r == 0 && addr_parse_ip(word, ret) < 0)
		return refuse(d, "\"%.40s\" is no address", word);
	return r;
}

/* ---- reports ---- */

static int histogram(const struct document *d, const json_t *o, const char *key, struct hist *ret)
{
	const json_t *h = json_object_get(o, key);
	const char *bucket;
	json_t *v;

	if (h && !json_is_object(h))
		return refuse(d, "\"%s\" is no object", key);
	json_object_foreach ((json_t *)h, bucket, v) {
		char *end;
		unsigned long at = strtoul(bucket, &end, 10);

		if (bucket[0] < '0' || bucket[0] > '9' || *end || at >= HIST_BUCKETS)
			return refuse(d, "\"%.20s\" in \"%s\" is no bucket", bucket, key);
		if (!json_is_integer(v) || json_integer_value(v) < 0 ||
		    json_integer_value(v) > UINT32_MAX - ret->count[at])
			return refuse(d, "bucket %lu of \"%s\" is no count", at, key);
		ret->count[at] += (dmm_u32)json_integer_value(v);
	}
	return 0;
}

static int failures(const struct document *d, const json_t *o, struct report *ret)
{
	const char *const *keys = report_failure_words;
	const json_t *failed = json_object_get(o, "failed");
	dmm_u64 v;
	int r = failed ? known_keys(d, failed, "\"failed\"", keys) : 0;

	for (unsigned i = 0; r == 0 && failed && i < DMM_FAILURES; i++) {
		r = number(d, failed, keys[i], UINT32_MAX, &v);
		ret->failed[i] = (dmm_u32)v;
	}
	return r;
}

static int read_report(struct document *d, const json_t *o, struct report *ret)
{
	static const char *const keys[] = {"rule",    "stack",	  "remote", "connections",
					   "failed",  "segments", "resent", "connect_us",
					   "srtt_us", "rate_kbs", NULL};
	enum report_refusal refusal;
	dmm_u64 connections;
	int r = known_keys(d, o, "a report", keys);

	if (r == 0)
		r = choice(d, o, &ret->rule, &ret->stack);
	if (r == 0)
		r = address(d, o, ret->remote);
	if (r == 0)
		r = number(d, o, "connections", UINT32_MAX, &connections);
	if (r == 0)
		r = number(d, o, "segments", INT64_MAX, &ret->segments);
	if (r == 0)
		r = number(d, o, "resent", INT64_MAX, &ret->resent);
	if (r == 0)
		r = failures(d, o, ret);
	if (r == 0)
		r = histogram(d, o, "connect_us", &ret->hist[REPORT_CONNECT]);
	if (r == 0)
		r = histogram(d, o, "srtt_us", &ret->hist[REPORT_SRTT]);
	if (r == 0)
		r = histogram(d, o, "rate_kbs", &ret->hist[REPORT_RATE]);
	if (r < 0)
		return r;
	ret->connections = (dmm_u32)connections;
	refusal = report_judge(ret);
	if (refusal != REPORT_TAKEN)
		return refuse(d, "a report of rule \"%s\": %s", nrd_rule(d->n, ret->rule)->name,
			      report_refusal_words[refusal]);
	return 0;
}

/* ---- advice ---- */

static int read_advice(struct document *d, const json_t *o, struct advice *ret)
{
	static const char *const keys[] = {"rule", "stack", "remote", NULL};
	int r = known_keys(d, o, "advice", keys);
	const char *rule;

	if (r == 0 && d->elsewhere)
		r = text(d, o, "rule", DMM_NAME_LEN, &rule);
	ret->elsewhere = r == 0 && d->elsewhere && nrd_find(d->n, rule) < 0 &&
			 d->elsewhere(d->ctx, rule);
	if (ret->elsewhere)
		return 0;
	if (r == 0)
		r = choice(d, o, &ret->rule, &ret->stack);
	ret->has_remote = json_object_get(o, "remote") != NULL;
	if (r == 0 && ret->has_remote)
		r = address(d, o, ret->remote);
	return r;
}

/* ---- the whole ---- */

static int read_head(struct document *d, const json_t *root, dmm_u64 now_s)
{
	static const char *const keys[] = {"nrd",     "host",	"sequence", "issued",
					   "reports", "advice", NULL};
	dmm_u64 version;
	int r;

	if (!json_is_object(root))
		return refuse(d, "it is no object");
	r = number(d, root, "nrd", INT64_MAX, &version);
	if (r < 0)
		return r;
	if (version != DOCUMENT_VERSION) /* before its keys: a newer one has others */
		return refuse(d, "its version is %llu; %d is known", version, DOCUMENT_VERSION);
	r = known_keys(d, root, "it", keys);
	if (r == 0)
		r = text(d, root, "host", sizeof(((struct document_hosts *)0)->host[0].name),
			 &d->host);
	if (r == 0)
		r = number(d, root, "sequence", INT64_MAX, &d->sequence);
	if (r == 0)
		r = number(d, root, "issued", INT64_MAX, &d->issued);
	if (r < 0)
		return r;
	if (d->issued > now_s + DOCUMENT_AHEAD_S)
		return refuse(d, "it is from the future, by %llu s", d->issued - now_s);
	if (d->issued + DOCUMENT_OLD_S < now_s)
		return refuse(d, "it is %llu s old", now_s - d->issued);
	return 0;
}

static int list_of(const struct document *d, const json_t *root, const char *key, size_t size,
		   void *ret_list, size_t *ret_n)
{
	const json_t *list = json_object_get(root, key);
	void *room;

	*ret_n = 0;
	if (list && !json_is_array(list))
		return refuse(d, "\"%s\" is no list", key);
	if (json_array_size(list) > DOCUMENT_ENTRIES)
		return refuse(d, "%zu entries in \"%s\"; at most %d are possible",
			      json_array_size(list), key, DOCUMENT_ENTRIES);
	room = calloc(json_array_size(list) + 1, size);
	if (!room)
		return -ENOMEM;
	memcpy(ret_list, &room, sizeof(room));
	*ret_n = json_array_size(list);
	return 0;
}

static int read_lists(struct document *d, const json_t *root)
{
	const json_t *reports = json_object_get(root, "reports");
	const json_t *advice = json_object_get(root, "advice");
	int r = list_of(d, root, "reports", sizeof(*d->report), &d->report, &d->n_reports);

	if (r == 0)
		r = list_of(d, root, "advice", sizeof(*d->advice), &d->advice, &d->n_advice);
	for (size_t i = 0; r == 0 && i < d->n_reports; i++)
		r = read_report(d, json_array_get(reports, i), &d->report[i]);
	for (size_t i = 0; r == 0 && i < d->n_advice; i++)
		r = read_advice(d, json_array_get(advice, i), &d->advice[i]);
	return r;
}

/* The number of the host, a new one if need be; one that was silent for long makes room. */
static int host_of(const struct document *d, struct document_hosts *hosts, dmm_u64 now_s)
{
	unsigned i = 0, oldest = 0;

	for (; i < hosts->n && strcmp(hosts->host[i].name, d->host) != 0; i++)
		if (hosts->host[i].issued < hosts->host[oldest].issued)
			oldest = i;
	if (i < hosts->n) {
		/* What had higher numbers is too old by then to be told again: so a host whose
		 * clock was ahead, and its numbers with it, is heard after it was started anew. */
		bool lately = hosts->host[i].issued + DOCUMENT_OLD_S >= now_s;

		if (lately && d->sequence <= hosts->host[i].sequence)
			return refuse(d, "number %llu of host \"%s\" is no news after %llu",
				      d->sequence, d->host, hosts->host[i].sequence);
		return (int)i;
	}
	if (i == DOCUMENT_HOSTS) {
		if (hosts->host[oldest].issued + DOCUMENT_OLD_S >= now_s)
			return refuse(d, "%d other hosts are known", DOCUMENT_HOSTS);
		i = oldest;
	}
	return (int)i;
}

/* Returns how much there was to tell. */
static size_t tell(struct nrd *n, struct document *d, struct document_hosts *hosts, unsigned host)
{
	bool known = host < hosts->n && strcmp(hosts->host[host].name, d->host) == 0;
	size_t told = d->n_reports;

	snprintf(hosts->host[host].name, sizeof(hosts->host[host].name), "%s", d->host);
	hosts->host[host].sequence = d->sequence;
	hosts->host[host].issued = known ? MAX(d->issued, hosts->host[host].issued) : d->issued;
	hosts->n = MAX(hosts->n, host + 1);
	for (size_t i = 0; i < d->n_reports; i++) {
		d->report[i].source = host + 1; /* 0 is this host itself */
		nrd_report(n, &d->report[i]);
	}
	for (size_t i = 0; i < d->n_advice; i++) {
		if (d->advice[i].elsewhere)
			continue;
		nrd_advise(n, d->advice[i].rule,
			   d->advice[i].has_remote ? d->advice[i].remote : NULL,
			   d->advice[i].stack);
		told++;
	}
	return told;
}

int document_take(struct nrd *n, struct document_hosts *hosts, const char *text_, size_t len,
		  dmm_u64 now_s, char reterr[256])
{
	dmm_u64 ignored = 0;

	return document_take_advice(n, hosts, text_, len, now_s, NULL, NULL, &ignored, reterr);
}

int document_take_advice(struct nrd *n, struct document_hosts *hosts, const char *text_, size_t len,
			 dmm_u64 now_s, document_elsewhere_fn elsewhere, void *ctx,
			 dmm_u64 *ret_taken, char reterr[256])
{
	struct document d = {.n = n, .err = reterr, .elsewhere = elsewhere, .ctx = ctx};
	json_error_t error;
	json_t *root;
	int r, host = 0;

	if (len > DOCUMENT_MAX)
		return refuse(&d, "%zu bytes; at most %d are possible", len, DOCUMENT_MAX);
	root = json_loadb(text_, len, JSON_REJECT_DUPLICATES, &error);
	if (!root)
		return refuse(&d, "it is no JSON: %.100s, line %d", error.text, error.line);
	r = read_head(&d, root, now_s);
	if (r == 0)
		r = read_lists(&d, root);
	if (r == 0)
		r = host = host_of(&d, hosts, now_s);
	if (r >= 0)
		*ret_taken += tell(n, &d, hosts, (unsigned)host);
	free(d.report);
	free(d.advice);
	json_decref(root);
	return r < 0 ? r : 0;
}
