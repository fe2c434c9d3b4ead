// SPDX-License-Identifier: Apache-2.0
/* Files that are read within a bound, and replaced whole or not at all. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <sys/stat.h>

#include "lib/base/file.h"
#include "lib/base/util.h"
#include "tests/unit/unit.h"

static char dir[] = "/tmp/dmm-file-XXXXXX";
static char path[64], aside[64];

static void test_read(void)
{
	static const size_t sizes[] = {0, 1, 4095, 4096, 4097, 100000};
	static char data[100000];

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char)(i * 31 + 1);
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		FILE *f = fopen(path, "w+");
		size_t len = 1;
		char *got = NULL;

		CU_ASSERT_EQUAL(fwrite(data, 1, sizes[i], f), sizes[i]);
		rewind(f);
		CU_ASSERT_EQUAL_FATAL(file_read(f, sizeof(data), &got, &len), 0);
		CU_ASSERT(len == sizes[i] && memcmp(got, data, len) == 0 && got[len] == 0);
		free(got);
		rewind(f);
		CU_ASSERT_EQUAL_FATAL(file_read(f, 5000, &got, &len), 0);
		CU_ASSERT(len == MIN(sizes[i], 5000) && memcmp(got, data, len) == 0);
		free(got);
		fclose(f);
	}
}

/* Memory for what the file has, and not for what it might have. */
static void test_read_memory(void)
{
	FILE *f = fopen("/proc/self/statm", "re");
	char *got = NULL;
	size_t len = 0;

	CU_ASSERT_EQUAL_FATAL(file_read(f, 1ul << 30, &got, &len), 0);
	CU_ASSERT(len > 0 && malloc_usable_size(got) < 1 << 16);
	free(got);
	fclose(f);
	f = fopen(dir, "re"); /* a directory can be opened, and not be read */
	CU_ASSERT_EQUAL(file_read(f, 100, &got, &len), -EISDIR);
	fclose(f);
}

struct text {
	const char *text;
	int r;
	bool full; /* as of a disk */
};

static int put_text(FILE *out, void *ctx)
{
	const struct text *t = ctx;

	fputs(t->text, out);
	if (t->full)
		dup2(open("/dev/full", O_WRONLY | O_CLOEXEC), fileno(out));
	return t->r;
}

static bool file_is(const char *text)
{
	char got[64] = "";
	FILE *f = fopen(path, "re");
	bool same;

	if (!f)
		return false;
	same = fread(got, 1, sizeof(got) - 1, f) == strlen(text) && strcmp(got, text) == 0;
	fclose(f);
	return same;
}

static void test_replace(void)
{
	struct text one = {"one", 0, false}, more = {"two and more", 0, false},
		    fails = {"three", -ENOMEM, false}, full = {"four", 0, true};
	char too_long[PATH_MAX];
	struct stat st;

	unlink(path);
	CU_ASSERT_EQUAL(file_replace(path, 0600, put_text, &more), 0);
	CU_ASSERT_TRUE(file_is("two and more"));
	CU_ASSERT_EQUAL(file_replace(path, 0600, put_text, &one), 0);
	CU_ASSERT_TRUE(file_is("one"));
	CU_ASSERT(stat(path, &st) == 0 && (st.st_mode & 07777) == 0600);

	CU_ASSERT_EQUAL(file_replace(path, 0600, put_text, &fails), -ENOMEM);
	CU_ASSERT_EQUAL(file_replace(path, 0600, put_text, &full), -ENOSPC);
	CU_ASSERT_TRUE(file_is("one"));
	CU_ASSERT(access(aside, F_OK) < 0);

	/* what somebody left there who was killed is not gone by */
	fclose(fopen(aside, "we"));
	chmod(aside, 0666);
	CU_ASSERT_EQUAL(file_replace(path, 0600, put_text, &more), 0);
	CU_ASSERT(stat(path, &st) == 0 && (st.st_mode & 07777) == 0600);

	memset(too_long, 'x', sizeof(too_long));
	too_long[PATH_MAX - 2] = '\0';
	CU_ASSERT_EQUAL(file_replace(too_long, 0600, put_text, &one), -ENAMETOOLONG);
	CU_ASSERT_EQUAL(file_replace("/nowhere/file", 0600, put_text, &one), -ENOENT);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"read within a bound", test_read},
		{"memory for what is there", test_read_memory},
		{"replaced whole or not at all", test_replace},
		CU_TEST_INFO_NULL,
	};
	int r;

	if (!mkdtemp(dir))
		return 1;
	snprintf(path, sizeof(path), "%s/file", dir);
	snprintf(aside, sizeof(aside), "%s.new", path);
	r = unit_run("file", tests);
	unlink(path);
	rmdir(dir);
	return r;
}
