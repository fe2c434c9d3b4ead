// SPDX-License-Identifier: Apache-2.0
#include <jansson.h>
#include <string.h>

#include "lib/base/addr.h"
#include "lib/base/util.h"
#include "policyd/nrd/document.h"

static void put_histogram(json_t *o, const char *key, const struct hist *h)
{
	json_t *counts = json_object();
	char bucket[16];

	for (unsigned i = 0; i < HIST_BUCKETS; i++) {
		if (!h->count[i])
			continue;
		snprintf(bucket, sizeof(bucket), "%u", i);
		json_object_set_new(counts, bucket, json_integer(h->count[i]));
	}
	json_object_set_new(o, key, counts);
}

static json_t *write_report(const struct nrd *n, const struct report *r)
{
	const struct nrd_rule *rule = nrd_rule(n, r->rule);
	json_t *o, *failed = json_object();
	char ip[ADDR_STRLEN];

	for (unsigned i = 0; i < DMM_FAILURES; i++)
		if (r->failed[i])
			json_object_set_new(failed, report_failure_words[i],
					    json_integer(r->failed[i]));
	o = json_pack("{s:s, s:s, s:s, s:I, s:o, s:I, s:I}", "rule", rule->name, "stack",
		      rule->stack[r->stack], "remote", addr_format_ip(r->remote, ip, sizeof(ip)),
		      "connections", (json_int_t)r->connections, "failed", failed, "segments",
		      (json_int_t)r->segments, "resent", (json_int_t)r->resent);
	if (!o)
		return NULL;
	put_histogram(o, "connect_us", &r->hist[REPORT_CONNECT]);
	put_histogram(o, "srtt_us", &r->hist[REPORT_SRTT]);
	put_histogram(o, "rate_kbs", &r->hist[REPORT_RATE]);
	return o;
}

char *document_write(const struct nrd *n, const struct report *reports, size_t n_reports,
		     const char *host, dmm_u64 sequence, dmm_u64 issued, size_t max)
{
	json_t *list = json_array(), *root;
	char *text;

	for (size_t i = 0; i < n_reports && i < DOCUMENT_ENTRIES; i++) {
		const struct nrd_rule *rule = nrd_rule(n, reports[i].rule);

		if (rule && reports[i].stack < rule->n_stacks)
			json_array_append_new(list, write_report(n, &reports[i]));
	}
	root = json_pack("{s:i, s:s, s:I, s:I, s:o}", "nrd", DOCUMENT_VERSION, "host", host,
			 "sequence", (json_int_t)sequence, "issued", (json_int_t)issued, "reports",
			 list);
	text = root ? json_dumps(root, JSON_COMPACT) : NULL;
	while (text && strlen(text) > max && json_array_size(list)) {
		size_t have = json_array_size(list),
		       keep = MIN(have * max / strlen(text), have - 1);

		while (have > keep)
			json_array_remove(list, --have);
		free(text);
		text = json_dumps(root, JSON_COMPACT);
	}
	json_decref(root);
	return text;
}
