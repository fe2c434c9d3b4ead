// SPDX-License-Identifier: Apache-2.0
#include <netinet/in.h>
#include <string.h>

#include "lib/base/addr.h"
#include "lib/base/util.h"
#include "tests/unit/policy_gen.h"

static const char *const prefixes[] = {
	"0.0.0.0/0",	     "10.0.0.0/8",     "10.1.0.0/16", "10.1.2.0/24", "10.1.2.3",
	"192.0.2.0/25",	     "192.0.2.128/25", "128.0.0.0/1", "::/1",	     "2000::/3",
	"2001:db8::/32",     "2001:db8::/64",  "2001:db8::1", "fe80::/10",   "::ffff:0:0/97",
	"2001:db8:0:2::/63", "::/96",
};

static struct policy_prefix gen_prefix(struct rng *r)
{
	struct policy_prefix p = {0};
	unsigned plen;

	addr_parse_prefix(prefixes[rng_below(r, ARRAY_SIZE(prefixes))], p.ip, &plen);
	p.plen = (dmm_u8)plen;
	return p;
}

static struct policy_ports gen_ports(struct rng *r)
{
	static const dmm_u16 edge[] = {1, 22, 80, 443, 8000, 8999, 32768, 65534, 65535};
	struct policy_ports p;

	p.lo = p.hi = edge[rng_below(r, ARRAY_SIZE(edge))];
	if (rng_below(r, 2)) {
		dmm_u16 other = edge[rng_below(r, ARRAY_SIZE(edge))];

		p.lo = MIN(p.lo, other);
		p.hi = MAX(p.hi, other);
	}
	return p;
}

/* Up to three distinct items of size bytes. */
#define GEN_LIST(r, list, n, item) \
	do { \
		size_t want_ = rng_below(r, 2) ? 0 : 1 + rng_below(r, 3); \
		list = calloc(3, sizeof(*list)); \
		for (size_t i_ = 0; i_ < want_; i_++) { \
			__typeof__(*list) new_ = item; \
			bool there_ = false; \
			for (size_t j_ = 0; j_ < n; j_++) \
				there_ |= !memcmp(&list[j_], &new_, sizeof(new_)); \
			if (!there_) \
				memcpy(&list[n++], &new_, sizeof(new_)); \
		} \
	} while (0)

struct name {
	char text[DMM_NAME_LEN];
};

static struct name gen_group_name(struct rng *r, const struct dmm_policy *p)
{
	struct name n;

	memcpy(n.text, p->groups[rng_below(r, (uint32_t)p->n_groups)].name, DMM_NAME_LEN);
	return n;
}

static void gen_match(struct rng *r, const struct dmm_policy *p, struct policy_match *m)
{
	static const dmm_u8 protos[] = {0, 0, IPPROTO_TCP, IPPROTO_UDP};
	struct name *group;

	GEN_LIST(r, group, m->n_group, gen_group_name(r, p));
	m->group = (char(*)[DMM_NAME_LEN])group;
	GEN_LIST(r, m->remote, m->n_remote, gen_prefix(r));
	GEN_LIST(r, m->local, m->n_local, gen_prefix(r));
	if (rng_below(r, 2))
		m->n_local = 0; /* three lists that all agree are rare */
	GEN_LIST(r, m->remote_port, m->n_remote_port, gen_ports(r));
	GEN_LIST(r, m->local_port, m->n_local_port, gen_ports(r));
	m->roles = (dmm_u8)rng_below(r, 3);
	m->proto = protos[rng_below(r, ARRAY_SIZE(protos))];
}

static unsigned gen_use(struct rng *r, const struct dmm_policy *p, char (*ret)[DMM_NAME_LEN])
{
	unsigned n = 0;

	if (rng_below(r, 5) == 0) {
		strcpy(ret[0], policy_reject_names[rng_below(r, DMM_REJECTS)]);
		return 1;
	}
	for (size_t i = 0; i < p->n_stacks && n < DMM_MAX_USE - 1; i++)
		if (rng_below(r, 2))
			memcpy(ret[n++], p->stacks[i].rec.name, DMM_NAME_LEN);
	if (n == 0 || rng_below(r, 2))
		strcpy(ret[n++], "kernel");
	return n;
}

static void gen_stack(struct rng *r, size_t i, struct dmm_stack_rec *s)
{
	snprintf(s->name, sizeof(s->name), "s%zu", i);
	if (rng_below(r, 2)) {
		s->kind = DMM_KIND_USERSPACE;
		strcpy(s->engine, rng_below(r, 2) ? "lwip" : "native");
		if (!strcmp(s->engine, "native")) {
			s->threads = rng_below(r, 2) ? 1u << rng_below(r, 4) : 0;
			strcpy(s->congestion, rng_below(r, 2) ? "dctcp" : "");
			s->ecn = (dmm_u8)rng_below(r, 2);
			s->user_timeout_ms = rng_below(r, 2) ? rng_below(r, 100000) : 0;
			s->keepalive_s = rng_below(r, 2) ? rng_below(r, 32768) : 0;
		}
		strcpy(s->driver, "xsk");
		strcpy(s->mode, rng_below(r, 2) ? "auto" : s->threads > 1 ? "tc" : "generic");
		snprintf(s->interface, sizeof(s->interface), "eth%zu", i);
		s->queue = s->threads > 1 ? 0 : rng_below(r, 3);
		s->poll = (dmm_u8)rng_below(r, 3);
		return;
	}
	s->kind = DMM_KIND_KERNEL;
	if (rng_below(r, 2))
		strcpy(s->congestion, "bbr");
	if (rng_below(r, 2))
		s->pacing_bps = 1000 * (1 + rng_below(r, 5000000));
	s->mark = rng_below(r, 2) ? rng_below(r, 100) : 0;
	s->priority = rng_below(r, 8);
	s->tos = rng_below(r, 2) ? rng_below(r, 257) : 0;
	s->user_timeout_ms = rng_below(r, 2) ? rng_below(r, 100000) : 0;
	s->keepalive_s = rng_below(r, 2) ? rng_below(r, 32768) : 0;
}

/* ---- what the language has beyond that ---- */

static void gen_set(struct rng *r, size_t i, struct policy_set *s)
{
	static const char *const names[] = {"databases", "web-ports", "_x", "true.", "nil"};

	snprintf(s->name, DMM_NAME_LEN, "%s%zu", names[rng_below(r, ARRAY_SIZE(names))], i);
	while (!s->n_prefix && !s->n_ports) {
		free(s->prefix);
		free(s->ports);
		s->prefix = NULL;
		s->ports = NULL;
		if (i & 1)
			GEN_LIST(r, s->ports, s->n_ports, gen_ports(r));
		else
			GEN_LIST(r, s->prefix, s->n_prefix, gen_prefix(r));
	}
}

static struct name gen_set_name(struct rng *r, const struct dmm_policy *p, bool ports)
{
	struct name n = {0};
	size_t i = 2 * rng_below(r, (uint32_t)p->n_sets / 2) + ports;

	memcpy(n.text, p->sets[i].name, DMM_NAME_LEN);
	return n;
}

static struct policy_uids gen_uids(struct rng *r)
{
	static const dmm_u32 edge[] = {0, 1, 999, 1000, 1999, 2000, 65534, UINT32_MAX - 1};
	struct policy_uids u;

	u.lo = u.hi = edge[rng_below(r, ARRAY_SIZE(edge))];
	if (rng_below(r, 2)) {
		dmm_u32 other = edge[rng_below(r, ARRAY_SIZE(edge))];

		u.lo = MIN(u.lo, other);
		u.hi = MAX(u.hi, other);
	}
	return u;
}

struct program {
	char text[DMM_PROGRAM_LEN];
};

static struct program gen_program(struct rng *r)
{
	static const char *const programs[] = {
		"nginx", "tmux:-server", "null", "7",	  "postgres-export",
		"~",	 "{a:b}",	 "it's", "\"q\\", "#"};
	struct program p = {0};

	strcpy(p.text, programs[rng_below(r, ARRAY_SIZE(programs))]);
	return p;
}

static void gen_match_more(struct rng *r, const struct dmm_policy *p, struct policy_match *m)
{
	struct name *set;
	struct program *program;

	GEN_LIST(r, set, m->n_remote_set, gen_set_name(r, p, false));
	m->remote_set = (char(*)[DMM_NAME_LEN])set;
	GEN_LIST(r, set, m->n_local_set, gen_set_name(r, p, false));
	m->local_set = (char(*)[DMM_NAME_LEN])set;
	GEN_LIST(r, set, m->n_remote_port_set, gen_set_name(r, p, true));
	m->remote_port_set = (char(*)[DMM_NAME_LEN])set;
	GEN_LIST(r, set, m->n_local_port_set, gen_set_name(r, p, true));
	m->local_port_set = (char(*)[DMM_NAME_LEN])set;
	GEN_LIST(r, m->uid, m->n_uid, gen_uids(r));
	GEN_LIST(r, program, m->n_program, gen_program(r));
	m->program = (char(*)[DMM_PROGRAM_LEN])program;
}

static void gen_weights(struct rng *r, struct dmm_rule *rule)
{
	if (rng_below(r, 2) || policy_reject(rule->use[0]) < DMM_REJECTS)
		return;
	for (unsigned i = 0; i < rule->n_use; i++)
		rule->weight[i] = (dmm_u16)rng_below(r, 10000);
	rule->weight[rng_below(r, rule->n_use)] = 1;
}

static void gen_auto(struct rng *r, struct dmm_rule *rule)
{
	static const dmm_u16 permille[] = {0, 500, 900, 950, 990, 999};
	static const dmm_u32 ms[] = {1000, 1001, 30000, 60000, 300000, 604800000};
	static const dmm_u32 us[] = {1, 999, 1000, 2000, 60000000};
	struct nrd_settings *s = &rule->nrd;

	if (rng_below(r, 3) || policy_reject(rule->use[0]) < DMM_REJECTS)
		return;
	memset(rule->weight, 0, sizeof(rule->weight));
	s->objective = (dmm_u8)(1 + rng_below(r, NRD_OBJECTIVES - 1));
	s->canary = (dmm_u8)(1 + rng_below(r, NRD_CANARY_MAX));
	s->min_gain = (dmm_u16)rng_below(r, NRD_MIN_GAIN_MAX + 1);
	s->dwell_ms = ms[rng_below(r, ARRAY_SIZE(ms))];
	s->cooldown_ms = ms[rng_below(r, ARRAY_SIZE(ms))];
	s->sla_permille = permille[rng_below(r, ARRAY_SIZE(permille))];
	s->sla_us = s->sla_permille ? us[rng_below(r, ARRAY_SIZE(us))] : 0;
}

static void gen_rules_more(struct rng *r, struct dmm_policy *p)
{
	for (size_t i = 0; i < p->n_rules; i++) {
		if (rng_below(r, 2))
			gen_match_more(r, p, &p->rules[i].match);
		gen_weights(r, &p->rules[i]);
		gen_auto(r, &p->rules[i]);
		p->rules[i].capture = rng_below(r, 4) == 0;
		p->rules[i].telemetry = !p->rules[i].nrd.objective && rng_below(r, 4) == 0;
	}
}

struct dmm_policy *gen_policy_full(struct rng *r)
{
	struct dmm_policy *p = gen_policy(r);

	p->n_sets = 2 + 2 * rng_below(r, 3);
	p->sets = calloc(p->n_sets, sizeof(*p->sets));
	for (size_t i = 0; i < p->n_sets; i++)
		gen_set(r, i, &p->sets[i]);
	gen_rules_more(r, p);
	return p;
}

static void gen_rules(struct rng *r, struct dmm_policy *p)
{
	p->n_rules = rng_below(r, 9);
	p->rules = calloc(p->n_rules + 1, sizeof(*p->rules));
	for (size_t i = 0; i < p->n_rules; i++) {
		struct dmm_rule *rule = &p->rules[i];

		snprintf(rule->name, DMM_NAME_LEN, "r%zu", i);
		gen_match(r, p, &rule->match);
		rule->n_use = gen_use(r, p, rule->use);
		rule->strict = rng_below(r, 4) == 0;
		rule->disabled = rng_below(r, 8) == 0;
		rule->capture = rng_below(r, 8) == 0;
		rule->carrier = rng_below(r, 2) ? DMM_CARRIER_TCP : DMM_CARRIER_SPLICE;
		rule->congestion = (dmm_u8)rng_below(r, DMM_CONGESTIONS);
	}
}

void gen_more_rules(struct rng *r, struct dmm_policy *p, size_t n)
{
	while (p->n_rules < n) {
		struct dmm_policy more = *p;

		gen_rules(r, &more);
		gen_rules_more(r, &more);
		p->rules = realloc(p->rules, (p->n_rules + more.n_rules + 1) * sizeof(*p->rules));
		memcpy(p->rules + p->n_rules, more.rules, more.n_rules * sizeof(*p->rules));
		for (size_t i = 0; i < more.n_rules; i++, p->n_rules++)
			snprintf(p->rules[p->n_rules].name, DMM_NAME_LEN, "r%zu", p->n_rules);
		free(more.rules);
	}
}

struct dmm_policy *gen_policy(struct rng *r)
{
	struct dmm_policy *p = policy_new();

	p->n_groups = 1 + rng_below(r, 4);
	p->groups = calloc(p->n_groups, sizeof(*p->groups));
	for (size_t i = 0; i < p->n_groups; i++) {
		snprintf(p->groups[i].name, DMM_NAME_LEN, "g%zu", i);
		snprintf(p->groups[i].cgroup, DMM_PATH_LEN, "dmm/g%zu", i);
	}
	p->n_stacks = rng_below(r, 5);
	p->stacks = calloc(p->n_stacks + 1, sizeof(*p->stacks));
	for (size_t i = 0; i < p->n_stacks; i++)
		gen_stack(r, i, &p->stacks[i].rec);
	gen_rules(r, p);
	p->n_def = gen_use(r, p, p->def);
	return p;
}

static void gen_addr(struct rng *r, struct dmm_addr *ret)
{
	static const dmm_u16 ports[] = {0, 1, 21, 22, 80, 443, 444, 8000, 8500, 65535};
	struct policy_prefix p = gen_prefix(r);

	switch (rng_below(r, 8)) {
	case 0: /* unknown */
		return;
	case 1:
		addr_from_v4(ret->ip, 0);
		break;
	default: /* inside of a prefix, or one bit beside it */
		memcpy(ret->ip, p.ip, 16);
		for (unsigned i = p.plen; i < 128; i++)
			if (rng_below(r, 2))
				ret->ip[i / 8] |= (dmm_u8)(0x80 >> i % 8);
		if (p.plen && rng_below(r, 4) == 0)
			ret->ip[(p.plen - 1) / 8] ^= (dmm_u8)(0x80 >> (p.plen - 1) % 8);
	}
	ret->port = ports[rng_below(r, ARRAY_SIZE(ports))];
}

void gen_socket(struct rng *r, const struct dmm_policy *p, struct gen_socket *ret)
{
	*ret = (struct gen_socket){0};
	if (rng_below(r, 5))
		ret->group = p->groups[rng_below(r, (uint32_t)p->n_groups)].name;
	ret->s.role = (dmm_u8)rng_below(r, 2);
	ret->s.proto = rng_below(r, 3) ? IPPROTO_TCP : IPPROTO_UDP;
	gen_addr(r, &ret->s.remote);
	gen_addr(r, &ret->s.local);
	ret->s.uid = gen_uids(r).lo;
	memcpy(ret->s.program, gen_program(r).text, sizeof(ret->s.program));
}

char *policy_text(const struct dmm_policy *p)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	policy_format(p, out);
	fclose(out);
	return text;
}
