// SPDX-License-Identifier: Apache-2.0
/* What the daemon serves over HTTP. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/addr.h"
#include "lib/base/util.h"
#include "policyd/daemon.h"
#include "policyd/json.h"
#include "policyd/metrics.h"
#include "policyd/value.h"
#include "policyd/web.h"

#define FLOWS_DEFAULT 10000 /* of GET /v1/flows without ?limit= */
#define FLOWS_MAX 100000

/* Take j as the body; NULL: out of memory. */
static void reply_json(struct http_reply *ret, unsigned status, json_t *j)
{
	ret->status = status;
	ret->body = j ? json_dumps(j, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;
	json_decref(j);
	if (!ret->body)
		ret->status = 500;
	else
		ret->len = strlen(ret->body);
}

static void reply_error(struct http_reply *ret, unsigned status, int r)
{
	reply_json(ret, status, json_pack("{s:s}", "error", strerror(-r)));
}

static bool measure(struct daemon *d, struct http_reply *ret)
{
	int r = daemon_measure(d);

	if (r < 0)
		reply_error(ret, 500, r);
	return r == 0;
}

static void get_metrics(const struct http_request *q, struct http_reply *ret, void *ctx)
{
	enum metrics_format format = metrics_negotiate(http_header(q, "Accept"));
	struct daemon *d = ctx;
	FILE *out;
	int r;

	if (!measure(d, ret))
		return;
	out = open_memstream(&ret->body, &ret->len);
	if (!out) {
		reply_error(ret, 500, -errno);
		return;
	}
	ret->type = metrics_content_type(format);
	r = metrics_write(d->telemetry, format, out);
	if (fclose(out) != 0 || r < 0)
		ret->status = 500;
}

/* 200 "ok", or 503 with a line for each instance that should be up and is not. */
static void get_healthz(const struct http_request *q, struct http_reply *ret, void *ctx)
{
	struct daemon *d = ctx;
	FILE *out;
	int r;

	(void)q;
	r = daemon_follow(d);
	out = open_memstream(&ret->body, &ret->len);
	if (!out) {
		reply_error(ret, 500, -errno);
		return;
	}
	ret->type = "text/plain; charset=utf-8";
	if (r < 0) {
		ret->status = 503;
		fprintf(out, "policy: cannot be read: %s\n", strerror(-r));
	}
	for (unsigned id = 0; id < DMM_MAX_STACKS; id++) {
		const struct instance *in = &d->sup.inst[id];

		if (!in->wanted || maps_stack_up(&d->tree, id))
			continue;
		ret->status = 503;
		fprintf(out, "stack %s: down, %s\n", in->rec.name,
			in->state == INST_RUNNING ? "its instance runs and is not ready"
			: in->why[0]		  ? in->why
						  : "its instance does not run");
	}
	if (ret->status == 200)
		fputs("ok\n", out);
	if (d->share.e) { /* cut off is no fault of this host: what it has goes on */
		char said[512];

		host_say(&d->share.host, said, sizeof(said));
		fprintf(out, "etcd: %s\n", said);
	}
	if (fclose(out) != 0)
		ret->status = 500;
}

static void get_policy(const struct http_request *q, struct http_reply *ret, void *ctx)
{
	struct daemon *d = ctx;
	struct dmm_policy *p;
	int r;

	(void)q;
	r = daemon_follow(d);
	if (r == 0)
		r = class_decompile(d->class, &p);
	if (r < 0) {
		reply_error(ret, 500, r);
		return;
	}
	reply_json(ret, 200,
		   json_pack("{s:I, s:o}", "generation", (json_int_t)d->generation, "policy",
			     json_policy(p)));
	policy_free(p);
}

struct flows {
	const struct dmm_class *class;
	json_t *list;
	size_t limit;
	bool truncated;
};

static int add_flow(const struct dmm_flow_row *f, void *ctx)
{
	struct flows *fl = ctx;

	fl->truncated = json_array_size(fl->list) >= fl->limit;
	if (!fl->truncated)
		json_array_append_new(fl->list, json_flow(f, fl->class));
	return fl->truncated;
}

static void get_flows(const struct http_request *q, struct http_reply *ret, void *ctx)
{
	struct daemon *d = ctx;
	struct flows fl = {0};
	const char *text = http_query(q, "limit");
	dmm_u64 limit = FLOWS_DEFAULT;
	int r;

	if (text && (value_parse_number(text, FLOWS_MAX, &limit) < 0 || !limit)) {
		reply_json(ret, 400,
			   json_pack("{s:o}", "error",
				     json_sprintf("limit: not a number from 1 to %d", FLOWS_MAX)));
		return;
	}
	fl.limit = limit;
	r = daemon_follow(d);
	fl.class = d->class;
	fl.list = json_array();
	if (r == 0)
		r = maps_flows(&d->tree, add_flow, &fl);
	if (r < 0) {
		json_decref(fl.list);
		reply_error(ret, 500, r);
		return;
	}
	reply_json(ret, 200, json_pack("{s:b, s:o}", "truncated", fl.truncated, "flows", fl.list));
}

static void get_stacks(const struct http_request *q, struct http_reply *ret, void *ctx)
{
	struct daemon *d = ctx;

	(void)q;
	if (measure(d, ret))
		reply_json(ret, 200, json_pack("{s:o}", "stacks", json_stacks(d->telemetry)));
}

static void get_groups(const struct http_request *q, struct http_reply *ret, void *ctx)
{
	struct daemon *d = ctx;
	int r = daemon_follow(d);

	(void)q;
	if (r < 0)
		reply_error(ret, 500, r);
	else
		reply_json(ret, 200, json_pack("{s:o}", "groups", json_groups(d->class)));
}

static void get_stats(const struct http_request *q, struct http_reply *ret, void *ctx)
{
	struct daemon *d = ctx;

	(void)q;
	if (measure(d, ret))
		reply_json(ret, 200, json_stats(d->telemetry));
}

/* ?rule=NAME: what is chosen for all, and for the prefixes that have a choice of their own;
 * &remote=ADDRESS: for that address only. */
struct nrd_answer {
	struct nrd *nrd;
	json_t *list;
	unsigned rule;
};

static void add_choice(void *ctx, const struct nrd_choice *choice)
{
	struct nrd_answer *a = ctx;

	if (choice->rule == a->rule)
		json_array_append_new(a->list, json_nrd_view(a->nrd, a->rule,
							     choice->plen ? choice->prefix : NULL,
							     now_ns()));
}

static void get_nrd_why(const struct http_request *q, struct http_reply *ret, void *ctx)
{
	struct daemon *d = ctx;
	const char *rule = http_query(q, "rule"), *remote = http_query(q, "remote");
	struct nrd_answer a = {.nrd = d->chooser.nrd};
	dmm_u8 ip[16];
	int r = daemon_follow(d);

	if (r == 0)
		r = nrd_find(a.nrd, rule ? rule : "");
	if (r < 0) {
		reply_json(ret, 404, json_pack("{s:s}", "error", "no such rule is auto"));
		return;
	}
	a.rule = (unsigned)r;
	if (remote && addr_parse_ip(remote, ip) < 0) {
		reply_json(ret, 400, json_pack("{s:s}", "error", "remote: not an address"));
		return;
	}
	a.list = json_array();
	if (remote)
		json_array_append_new(a.list, json_nrd_view(a.nrd, a.rule, ip, now_ns()));
	else
		nrd_choices(a.nrd, add_choice, &a);
	reply_json(ret, 200, json_pack("{s:o}", "choices", a.list));
}

static void get_nrd_history(const struct http_request *q, struct http_reply *ret, void *ctx)
{
	struct daemon *d = ctx;
	const struct nrd_decision *one;
	json_t *list = json_array();

	(void)q;
	for (size_t i = 0; (one = nrd_decision(d->chooser.nrd, i)); i++)
		json_array_append_new(list, json_nrd_decision(one, now_ns()));
	reply_json(ret, 200, json_pack("{s:o}", "decisions", list));
}

static json_t *etcd_status(const struct share *s)
{
	const struct host *h = &s->host;
	char said[512];
	json_t *o;

	if (!s->e)
		return json_null();
	host_say(h, said, sizeof(said));
	o = json_pack("{s:s, s:s, s:b, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:s}", "host", s->name,
		      "endpoint", etcd_endpoint(s->e), "connected", h->connected, "text", said,
		      "changed", (json_int_t)h->changed_s, "revision", (json_int_t)h->applied,
		      "refused_revision", (json_int_t)h->refused, "reports", (json_int_t)h->reports,
		      "advice", (json_int_t)s->advice, "advice_refused",
		      (json_int_t)h->advice_refused, "advice_error", h->advice_why);
	if (o)
		json_object_set_new(o, "advice_age_s",
				    s->advised_ns
					    ? json_real((double)(now_ns() - s->advised_ns) / 1e9)
					    : json_null());
	return o;
}

static void get_nrd_status(const struct http_request *q, struct http_reply *ret, void *ctx)
{
	struct daemon *d = ctx;
	struct nrd_counters c;

	(void)q;
	daemon_follow(d);
	nrd_counters(d->chooser.nrd, &c);
	reply_json(ret, 200,
		   json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "rules",
			     (json_int_t)d->chooser.n_rules, "prefixes", (json_int_t)c.paths,
			     "samples", (json_int_t)d->chooser.samples_n, "missed",
			     (json_int_t)d->chooser.samples_lost, "decisions",
			     (json_int_t)c.decisions, "clock_jumps", (json_int_t)c.clock_jumps,
			     "etcd", etcd_status(&d->share)));
}

/* Follow what is in the maps at once; with ?file=1, put the configuration file in force first. */
static void post_reload(const struct http_request *q, struct http_reply *ret, void *ctx)
{
	struct daemon *d = ctx;
	struct policy_diags diags = {0};
	const char *file = http_query(q, "file");
	int r;

	if (file && strcmp(file, "0") != 0)
		r = daemon_reload(d, &diags);
	else
		r = daemon_follow(d);
	if (r < 0)
		reply_json(ret,
			   r == -EWOULDBLOCK ? 409
			   : diags.errors    ? 422
					     : 500,
			   json_pack("{s:s, s:I, s:o}", "error", strerror(-r), "generation",
				     (json_int_t)d->generation, "diagnostics", json_diags(&diags)));
	else
		reply_json(ret, 200,
			   json_pack("{s:I, s:o}", "generation", (json_int_t)d->generation,
				     "diagnostics", json_diags(&diags)));
	policy_diags_fini(&diags);
}

static void get_history(const struct http_request *q, struct http_reply *ret, void *ctx)
{
	struct daemon *d = ctx;

	(void)q;
	reply_json(ret, 200,
		   json_pack("{s:i, s:o}", "period_s", TREND_S, "samples", trend_json(d->trend)));
}

static void get_file(const struct http_request *q, struct http_reply *ret, void *ctx)
{
	const struct web_file *f = web_files;

	(void)ctx;
	while (strcmp(f->path, q->path) != 0) /* each has a route */
		f++;
	ret->type = f->type;
	ret->body = malloc(f->len + 1);
	ret->len = f->len;
	if (ret->body)
		memcpy(ret->body, f->data, f->len);
	else
		ret->status = 500;
}

const struct http_route daemon_routes[] = {
	{"GET", "/", false, get_file},
	{"GET", "/page.css", false, get_file},
	{"GET", "/page.js", false, get_file},
	{"GET", "/uplot.css", false, get_file},
	{"GET", "/uplot.js", false, get_file},
	{"GET", "/metrics", false, get_metrics},
	{"GET", "/healthz", false, get_healthz},
	{"GET", "/v1/policy", false, get_policy},
	{"GET", "/v1/flows", false, get_flows},
	{"GET", "/v1/stacks", false, get_stacks},
	{"GET", "/v1/groups", false, get_groups},
	{"GET", "/v1/stats", false, get_stats},
	{"GET", "/v1/nrd/status", false, get_nrd_status},
	{"GET", "/v1/nrd/why", false, get_nrd_why},
	{"GET", "/v1/nrd/history", false, get_nrd_history},
	{"GET", "/v1/history", false, get_history},
	{"POST", "/v1/reload", true, post_reload},
	{NULL, NULL, false, NULL},
};
