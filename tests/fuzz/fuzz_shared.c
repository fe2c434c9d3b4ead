// SPDX-License-Identifier: Apache-2.0
/*
 * Documents of a shared policy, as a host finds them in etcd, merged with what its operator wrote.
 * A NUL ends a document. What is refused has a reason; what is taken leaves the operator's rules
 * first and as they were, passes the check of the whole, compiles, and is the same when it is
 * merged again in its own place.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "policyd/check.h"
#include "policyd/fleet/shared.h"
#include "policyd/policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char operators[] =
	"groups: {web: {}, db: {}}\n"
	"stacks: {edge0: {engine: native, port: {driver: xsk, interface: eth1}},\n"
	"         bulk: {kind: kernel, congestion: bbr}}\n"
	"rules:\n"
	"  - {name: own, match: {group: web, remote_port: 22}, use: kernel}\n"
	"  - {name: own-too, match: {group: db}, use: [edge0, kernel]}\n";

/* The documents in data, named a, b … */
static void split(const uint8_t *data, size_t size, struct texts *ret)
{
	for (char name[2] = "a"; size > 0 && name[0] <= 'h'; name[0]++) {
		size_t len = strnlen((const char *)data, size);
		char *text = strndup((const char *)data, len);

		if (texts_put(ret, name, text) < 0)
			abort();
		free(text);
		data += len + (len < size);
		size -= len + (len < size);
	}
}

static int merge(struct dmm_policy *p, const struct texts *documents)
{
	char stacks[][DMM_NAME_LEN] = {"edge0", "bulk"};
	struct policy_prefix address = {.ip = {[10] = 0xff, 0xff, 10, 0, 0, 1}, .plen = 128};
	const struct host_facts facts = {.name = "web-1",
					 .stack = stacks,
					 .n_stack = 2,
					 .address = &address,
					 .n_address = 1};
	char why[320] = "?";
	int r = shared_merge(p, documents, &facts, why);

	if ((r == -EINVAL) != (why[0] != '\0') || (r < 0 && r != -EINVAL))
		abort();
	return r;
}

static void compile(const struct dmm_policy *p, struct dmm_class *ret)
{
	if (class_compile(p, NULL, ret) < 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct dmm_class *once = class_new(), *twice = class_new();
	struct policy_diags diags = {0};
	struct texts documents = {0};
	struct dmm_policy *p = NULL;

	if (!once || !twice ||
	    policy_parse_text("own", operators, sizeof(operators) - 1, &p, &diags) < 0)
		abort();
	split(data, size, &documents);
	if (merge(p, &documents) == 0) {
		if (p->n_rules < 2 || strcmp(p->rules[0].name, "own") != 0 ||
		    strcmp(p->rules[1].name, "own-too") != 0 || policy_check(p, &diags) < 0)
			abort();
		for (size_t i = 0; i < p->n_rules; i++)
			if ((p->rules[i].origin == DMM_ORIGIN_NRD) != (i >= 2))
				abort();
		compile(p, once);
		if (merge(p, &documents) < 0)
			abort();
		compile(p, twice);
		if (!class_equal(once, twice))
			abort();
	}
	texts_fini(&documents);
	policy_diags_fini(&diags);
	policy_free(p);
	class_free(once);
	class_free(twice);
	return 0;
}
