// SPDX-License-Identifier: Apache-2.0
/* struct dmm_policy: its life, and reading it from files. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/file.h"
#include "lib/base/util.h"
#include "policyd/diag.h"
#include "policyd/index.h"
#include "policyd/policy_read.h"

struct dmm_policy *policy_new(void)
{
	struct dmm_policy *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	strcpy(p->def[0], "kernel");
	p->n_def = 1;
	strcpy(p->daemon.socket, "/run/dmm/policyd.sock");
	strcpy(p->daemon.etcd.prefix, ETCD_PREFIX);
	p->daemon.etcd.lease_s = ETCD_LEASE_S;
	return p;
}

const char *const policy_reject_names[DMM_REJECTS] = {
	[DMM_REJECT_REFUSED] = "reject",
	[DMM_REJECT_UNREACHABLE] = "reject-unreachable",
	[DMM_REJECT_PERMISSION] = "reject-permission",
};

enum dmm_reject policy_reject(const char *name)
{
	int i;

	for (i = 0; i < DMM_REJECTS; i++)
		if (strcmp(policy_reject_names[i], name) == 0)
			break;
	return (enum dmm_reject)i;
}

void policy_rule_fini(struct dmm_rule *r)
{
	struct policy_match *m = &r->match;

	free(m->group);
	free(m->remote);
	free(m->local);
	free(m->remote_port);
	free(m->local_port);
	free(m->remote_set);
	free(m->local_set);
	free(m->remote_port_set);
	free(m->local_port_set);
	free(m->uid);
	free(m->program);
	*m = (struct policy_match){0};
}

int policy_find_rule(const struct dmm_policy *p, const char *name, size_t *ret)
{
	for (size_t i = 0; i < p->n_rules; i++)
		if (strcmp(p->rules[i].name, name) == 0) {
			*ret = i;
			return 0;
		}
	return -ENOENT;
}

void policy_free(struct dmm_policy *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < p->n_rules; i++)
		policy_rule_fini(&p->rules[i]);
	for (size_t i = 0; i < p->n_sets; i++) {
		free(p->sets[i].prefix);
		free(p->sets[i].ports);
	}
	free(p->sets);
	free(p->rules);
	free(p->stacks);
	free(p->groups);
	free(p);
}

int policy_name_rules(struct dmm_policy *p)
{
	struct index names = {0};
	size_t next = 1;
	int r = 0;

	for (size_t i = 0; r >= 0 && i < p->n_rules; i++)
		if (p->rules[i].name[0])
			r = index_put_name(&names, p->rules[i].name, i, NULL);
	for (size_t i = 0; r >= 0 && i < p->n_rules; i++) {
		char *name = p->rules[i].name;

		if (name[0])
			continue;
		/* What is below next is taken: no number is tried twice. */
		for (next = next > i ? next : i + 1; r >= 0; next++) {
			snprintf(name, DMM_NAME_LEN, "rule-%zu", next);
			r = index_put_name(&names, name, i, NULL);
			if (r == 0)
				break;
		}
	}
	index_fini(&names);
	return r < 0 ? r : 0;
}

/* The whole file; one byte more than is taken: then node_parse() says so. */
static int read_file(const char *path, struct policy_diags *diags, char **ret, size_t *ret_len)
{
	_cleanup_fclose_ FILE *f = fopen(path, "re");
	int r = f ? file_read(f, NODE_MAX_BYTES + 1, ret, ret_len) : -errno;

	if (r < 0 && r != -ENOMEM)
		diag_error(diags, path, 0, 0, "cannot be %s: %s", f ? "read" : "opened",
			   strerror(-r));
	return r;
}

static int add_text(struct policy_builder *b, const char *name, const char *text, size_t len)
{
	struct node *root;
	int r = node_parse(name, text, len, &root, b->diags);

	if (r < 0 || !root)
		return r;
	r = policy_read(b, name, root);
	node_free(root);
	return r;
}

static int add_file(struct policy_builder *b, const char *path)
{
	_cleanup_free_ char *text = NULL;
	size_t len = 0;
	int r = read_file(path, b->diags, &text, &len);

	return r < 0 ? r : add_text(b, path, text, len);
}

static int begin(struct policy_builder *b, struct policy_diags *diags)
{
	*b = (struct policy_builder){.diags = diags, .policy = policy_new()};
	return b->policy ? 0 : -ENOMEM;
}

static int finish(struct policy_builder *b, int r, struct dmm_policy **ret)
{
	if (r == 0)
		r = policy_name_rules(b->policy);
	if (r < 0) {
		policy_free(b->policy);
		return r;
	}
	*ret = b->policy;
	return 0;
}

int policy_parse_text(const char *name, const char *text, size_t len, struct dmm_policy **ret,
		      struct policy_diags *reterr)
{
	struct policy_builder b;
	int r = begin(&b, reterr);

	return r < 0 ? r : finish(&b, add_text(&b, name, text, len), ret);
}

int policy_parse_file(const char *path, struct dmm_policy **ret, struct policy_diags *reterr)
{
	struct policy_builder b;
	int r = begin(&b, reterr);

	return r < 0 ? r : finish(&b, add_file(&b, path), ret);
}

static int is_yaml(const struct dirent *e)
{
	size_t n = strlen(e->d_name);

	return e->d_name[0] != '.' && n > 5 && strcmp(e->d_name + n - 5, ".yaml") == 0;
}

int policy_parse_dir(const char *path, struct dmm_policy **ret, struct policy_diags *reterr)
{
	const char *slash = strrchr(path, '/');
	char dir[PATH_MAX];
	struct policy_builder b;
	struct dirent **list;
	int n, r, err = begin(&b, reterr);

	if (err < 0)
		return err;
	err = add_file(&b, path);
	snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - path + 1) : 0, path);
	strncat(dir, "policy.d", sizeof(dir) - strlen(dir) - 1);
	n = scandir(dir, &list, is_yaml, alphasort);
	if (n < 0 && errno != ENOENT) {
		int e = -errno;

		diag_error(reterr, dir, 0, 0, "cannot be read: %s", strerror(errno));
		return finish(&b, e, ret);
	}
	for (int i = 0; i < n; i++) {
		char file[PATH_MAX + 1 + NAME_MAX];

		snprintf(file, sizeof(file), "%s/%s", dir, list[i]->d_name);
		free(list[i]);
		r = err == -ENOMEM ? err : add_file(&b, file);
		if (r < 0)
			err = r;
	}
	if (n >= 0)
		free(list);
	return finish(&b, err, ret);
}

int policy_parse_rule(const char *text, struct dmm_rule *ret, struct policy_diags *reterr)
{
	struct node *root;
	int r = node_parse("", text, strlen(text), &root, reterr);

	*ret = (struct dmm_rule){0};
	if (r < 0)
		return r;
	if (!root)
		return diag_error(reterr, "", 0, 0, "an empty rule");
	r = policy_read_rule("", reterr, root, 1, ret);
	ret->origin = DMM_ORIGIN_OPERATOR;
	if (r < 0)
		policy_rule_fini(ret);
	node_free(root);
	return r;
}
