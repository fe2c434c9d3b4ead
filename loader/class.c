// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>
#include <string.h>

#include "loader/maps.h"

struct dmm_class *class_new(void)
{
	return calloc(1, sizeof(struct dmm_class));
}

void class_fini(struct dmm_class *c)
{
	free(c->image);
	memset(c, 0, sizeof(*c));
}

void class_free(struct dmm_class *c)
{
	if (c)
		free(c->image);
	free(c);
}
