/* SPDX-License-Identifier: Apache-2.0 */
/* Images (struct dmm_cell in bpf/dmm_abi.h) in the slots of dmm_image. */
#ifndef DMM_LOADER_IMAGE_H
#define DMM_LOADER_IMAGE_H

#include "loader/maps.h"

/*
 * Put the image of c into a slot that is not in force. Where the map there is large enough only
 * pages that differ are written; else it is replaced by a new one. 0 or -errno: then the slot may
 * hold anything, and the next call makes it whole again.
 */
int image_write(struct tree *t, dmm_u32 slot, const struct dmm_class *c);

/* The image of a slot, to look at only; it may be written meanwhile. */
struct image_view {
	struct dmm_class_hdr hdr; /* a copy */
	const struct dmm_rule_rec *rule;
	struct dmm_cell *cell; /* NULL: none */
	size_t n;
};

/* -EUCLEAN, -EPROTO as image_read(); image_view_close() if it succeeds, or of one that is zero. */
int image_view(struct tree *t, dmm_u32 slot, struct image_view *ret);
void image_view_close(struct image_view *v);

/* Read hdr, image and rules of a slot. -EUCLEAN: what is there is no image. -EPROTO: an image of
 * another ABI. */
int image_read(struct tree *t, dmm_u32 slot, struct dmm_class *ret);

#endif
