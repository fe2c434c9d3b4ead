// SPDX-License-Identifier: Apache-2.0
/* probe and detach: DMM and this host. */
#include <errno.h>
#include <string.h>

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "loader/probe.h"
#include "policyd/ctl.h"
#include "policyd/instance.h"
#include "policyd/table.h"

static void probe_print(const struct probe *p, unsigned n)
{
	static const char *const headers[] = {"FEATURE", "HERE", "+FOR"};
	struct table t;

	table_init(&t, headers, ARRAY_SIZE(headers));
	for (unsigned i = 0; i < n; i++) {
		table_cell(&t, "%s", p[i].name);
		table_cell(&t, "%s", !p[i].error ? "yes" : p[i].required ? "NO" : "no");
		table_tint(&t, !p[i].error ? TINT_GOOD : p[i].required ? TINT_BAD : TINT_WARN);
		table_cell(&t, "%s%s", p[i].purpose, p[i].required ? " (needed)" : "");
	}
	table_print(&t, stdout);
	for (unsigned i = 0; i < n; i++)
		if (p[i].error)
			printf("%s: %s; %s\n", p[i].name, strerror(-p[i].error), p[i].advice);
}

int ctl_probe(const struct ctl *c, int argc, char **argv)
{
	const struct probe *p;
	bool missing = false;
	unsigned n;
	int r = probe_run(&p, &n);

	(void)argc;
	(void)argv;
	if (r < 0) {
		log_err("nothing can be tried: %s; run as root (CAP_BPF, CAP_NET_ADMIN)",
			strerror(-r));
		return CTL_FAILED;
	}
	for (unsigned i = 0; i < n; i++)
		missing |= p[i].required && p[i].error;
	if (c->given & CTL_JSON) {
		json_t *list = json_array();

		for (unsigned i = 0; i < n; i++)
			json_array_append_new(
				list,
				json_pack("{s:s, s:b, s:b, s:s?, s:s, s:s}", "name", p[i].name,
					  "available", !p[i].error, "required", p[i].required,
					  "error", p[i].error ? strerror(-p[i].error) : NULL,
					  "purpose", p[i].purpose, "advice", p[i].advice));
		r = ctl_print_json(c, list);
	} else {
		probe_print(p, n);
		r = CTL_OK;
	}
	return missing ? CTL_FAILED : r;
}

int ctl_detach(const struct ctl *c, int argc, char **argv)
{
	_cleanup_close_ int lock = -1;
	int r = tree_lock_daemon(c->bpffs, &lock);

	(void)argc;
	(void)argv;
	if (r < 0 && r != -EWOULDBLOCK)
		return CTL_FAILED;
	if (r == -EWOULDBLOCK && !(c->given & CTL_FORCE)) {
		log_err("dmm-policyd runs and would put everything back; stop it first, or use "
			"--force");
		return CTL_FAILED;
	}
	r = instance_stop_all(tree_path(c->bpffs), 2000);
	if (r >= 0)
		r = tree_teardown(c->bpffs);
	if (r < 0 && r != -ENOENT) {
		log_err("%s: not removed: %s", tree_path(c->bpffs), strerror(-r));
		return CTL_FAILED;
	}
	if (c->given & CTL_JSON)
		return ctl_print_json(c, json_pack("{s:b}", "removed", r == 0));
	if (r == -ENOENT)
		printf("%s: there was nothing to remove\n", tree_path(c->bpffs));
	else
		printf("%s: removed; sockets that exist live on, new ones are on the kernel "
		       "stack\n",
		       tree_path(c->bpffs));
	return CTL_OK;
}
