// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/base/file.h"
#include "lib/base/util.h"
#include "policyd/fleet/texts.h"

static size_t find(const struct texts *t, const char *name, bool *ret_there)
{
	size_t lo = 0, hi = t->n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (strcmp(t->list[mid].name, name) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	*ret_there = lo < t->n && strcmp(t->list[lo].name, name) == 0;
	return lo;
}

static void take_out(struct texts *t, size_t at)
{
	t->bytes -= strlen(t->list[at].text);
	free(t->list[at].name);
	free(t->list[at].text);
	t->n--;
	memmove(&t->list[at], &t->list[at + 1], (t->n - at) * sizeof(*t->list));
}

int texts_put(struct texts *t, const char *name, const char *text)
{
	size_t len = strlen(text), at;
	struct text new, *list;
	bool there;

	at = find(t, name, &there);
	if (!len) {
		if (there)
			take_out(t, at);
		return 0;
	}
	if (t->n - there >= TEXTS_MAX ||
	    t->bytes - (there ? strlen(t->list[at].text) : 0) + len > TEXTS_BYTES)
		return -E2BIG;
	new = (struct text){strdup(name), strdup(text)};
	list = there ? t->list : reallocarray(t->list, t->n + 1, sizeof(*list));
	if (list)
		t->list = list;
	if (!new.name || !new.text || !list) {
		free(new.name);
		free(new.text);
		return -ENOMEM;
	}
	if (there)
		take_out(t, at);
	memmove(&t->list[at + 1], &t->list[at], (t->n - at) * sizeof(*t->list));
	t->list[at] = new;
	t->n++;
	t->bytes += len;
	return 0;
}

int texts_copy(const struct texts *from, struct texts *ret)
{
	int r = 0;

	*ret = (struct texts){0};
	for (size_t i = 0; r == 0 && i < from->n; i++)
		r = texts_put(ret, from->list[i].name, from->list[i].text);
	if (r < 0)
		texts_fini(ret);
	return r;
}

void texts_fini(struct texts *t)
{
	for (size_t i = 0; i < t->n; i++) {
		free(t->list[i].name);
		free(t->list[i].text);
	}
	free(t->list);
	*t = (struct texts){0};
}

void texts_follow_begin(struct texts_followed *f)
{
	texts_fini(&f->pages);
	f->paging = true;
}

int texts_follow_put(struct texts_followed *f, const char *name, const char *text)
{
	return texts_put(f->paging ? &f->pages : &f->now, name, text);
}

void texts_follow_whole(struct texts_followed *f)
{
	if (!f->paging)
		return;
	texts_fini(&f->now);
	f->now = f->pages;
	f->pages = (struct texts){0};
	f->paging = false;
}

void texts_follow_fini(struct texts_followed *f)
{
	texts_fini(&f->now);
	texts_fini(&f->pages);
}

static int save(FILE *out, void *ctx)
{
	return json_dumpf(ctx, out, JSON_COMPACT) < 0 ? -EIO : 0;
}

int texts_save(const struct texts *t, dmm_u64 revision, dmm_u64 cluster, const char *path)
{
	json_t *root = json_pack("{s:I, s:s, s:{}}", "revision", (json_int_t)revision, "cluster",
				 "", "documents");
	char number[24];
	int r = root ? 0 : -ENOMEM;

	snprintf(number, sizeof(number), "%llu", cluster); /* it may be beyond a signed number */
	json_object_set_new(root, "cluster", json_string(number));
	for (size_t i = 0; r == 0 && i < t->n; i++)
		if (json_object_set_new(json_object_get(root, "documents"), t->list[i].name,
					json_string(t->list[i].text)) < 0)
			r = -ENOMEM;
	if (r == 0)
		r = file_replace(path, 0600, save, root);
	json_decref(root);
	return r;
}

int texts_load(struct texts *t, dmm_u64 *ret_revision, dmm_u64 *ret_cluster, const char *path)
{
	json_t *root, *documents, *text;
	json_int_t revision;
	const char *name, *cluster;
	int r = 0;

	*t = (struct texts){0};
	if (access(path, R_OK) < 0)
		return -errno;
	root = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
	if (json_unpack(root, "{s:I, s:s, s:o}", "revision", &revision, "cluster", &cluster,
			"documents", &documents) < 0 ||
	    revision < 1 || !json_is_object(documents))
		r = -EBADMSG;
	else
		json_object_foreach (documents, name, text)
			if (r == 0)
				r = texts_put(t, name, json_string_value(text) ?: "");
	if (r == 0) {
		*ret_revision = (dmm_u64)revision;
		*ret_cluster = strtoull(cluster, NULL, 10);
	} else {
		texts_fini(t);
	}
	json_decref(root);
	return r;
}
