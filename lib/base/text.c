// SPDX-License-Identifier: Apache-2.0
#include <stdbool.h>
#include <string.h>

#include "lib/base/text.h"

/* Bytes of the character that s begins with, of n bytes; 0: it is none, or one of the control
 * characters beyond ASCII (U+0080 to U+009F). RFC 3629, section 4. */
static size_t character(const unsigned char *s, size_t n)
{
	size_t len = s[0] < 0x80		    ? 1
		     : s[0] >= 0xc2 && s[0] <= 0xdf ? 2
		     : s[0] >= 0xe0 && s[0] <= 0xef ? 3
		     : s[0] >= 0xf0 && s[0] <= 0xf4 ? 4
						    : 0;

	if (len == 0 || len > n)
		return 0;
	for (size_t i = 1; i < len; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((s[0] == 0xc2 && s[1] < 0xa0) || (s[0] == 0xe0 && s[1] < 0xa0) ||
	    (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) ||
	    (s[0] == 0xf4 && s[1] > 0x8f))
		return 0; /* a control character, too long a form, a surrogate, beyond U+10FFFF */
	return len;
}

static char *clean(const char *s, size_t size, char *ret, bool keep_ascii)
{
	size_t n = strnlen(s, size), len;

	for (size_t i = 0; i < n; i += len) {
		len = character((const unsigned char *)s + i, n - i);
		if (len == 0 || s[i] == 0x7f || (len == 1 && s[i] < 0x20 && !keep_ascii)) {
			ret[i] = '?';
			len = 1;
		} else {
			memmove(ret + i, s + i, len);
		}
	}
	ret[n] = '\0';
	return ret;
}

char *text_clean(const char *s, size_t size, char *ret)
{
	return clean(s, size, ret, false);
}

char *text_utf8(const char *s, size_t size, char *ret)
{
	return clean(s, size, ret, true);
}
