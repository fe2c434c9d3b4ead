// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

#include "lib/base/file.h"
#include "lib/base/util.h"

#define FIRST 4096

int file_read(FILE *in, size_t max, char **ret, size_t *ret_len)
{
	_cleanup_free_ char *data = NULL;
	size_t len = 0, room = 0;

	do {
		char *more;

		room = MIN(MAX(2 * room, FIRST), max);
		more = realloc(data, room + 1);
		if (!more)
			return -ENOMEM;
		data = more;
		errno = 0;
		len += fread(data + len, 1, room - len, in);
		if (ferror(in))
			return errno ? -errno : -EIO;
	} while (len == room && room < max);
	data[len] = '\0';
	*ret = data;
	*ret_len = len;
	data = NULL;
	return 0;
}

static int write_out(int fd, int (*write)(FILE *out, void *ctx), void *ctx)
{
	FILE *out = fdopen(fd, "w");
	int r;

	if (!out) {
		r = -errno;
		close(fd);
		return r;
	}
	r = write(out, ctx);
	if (r == 0 && (fflush(out) != 0 || fsync(fd) < 0))
		r = -errno;
	if (r == 0 && ferror(out))
		r = -EIO;
	if (fclose(out) != 0 && r == 0)
		r = -errno;
	return r;
}

int file_replace(const char *path, mode_t mode, int (*write)(FILE *out, void *ctx), void *ctx)
{
	char aside[PATH_MAX];
	int fd, r;

	if (snprintf(aside, sizeof(aside), "%s.new", path) >= (int)sizeof(aside))
		return -ENAMETOOLONG;
	unlink(aside); /* of who was killed: it may have another mode */
	fd = open(aside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	if (fd < 0)
		return -errno;
	r = write_out(fd, write, ctx);
	if (r == 0 && rename(aside, path) < 0)
		r = -errno;
	if (r < 0)
		unlink(aside);
	return r;
}
