/* SPDX-License-Identifier: Apache-2.0 */
/* Files as a whole: read within a bound, replaced in one step. */
#ifndef DMM_BASE_FILE_H
#define DMM_BASE_FILE_H

#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>

/* Read to the end, but at most max bytes: memory is taken for what is there, and 0 follows it.
 * *ret is for free(). 0 or -errno, nothing to free then. */
int file_read(FILE *in, size_t max, char **ret, size_t *ret_len);

/*
 * Replace the file by what write() puts out: whole or not at all, whenever the program or the
 * machine stops. It is written to path.new, brought to the disk, and renamed. write() returns 0 or
 * -errno; the file of before stays if it does not return 0, or if out has an error after it. 0 or
 * -errno.
 */
int file_replace(const char *path, mode_t mode, int (*write)(FILE *out, void *ctx), void *ctx);

#endif
