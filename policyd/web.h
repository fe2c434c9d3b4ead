/* SPDX-License-Identifier: Apache-2.0 */
/* The files of the web page, made of web/ by the build. */
#ifndef DMM_POLICYD_WEB_H
#define DMM_POLICYD_WEB_H

#include <stddef.h>

struct web_file {
	const char *path, *type; /* of the URL; content type */
	const unsigned char *data;
	size_t len;
};

/* Ends with a row without path. */
extern const struct web_file web_files[];

#endif
