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

/* Read hdr, image and rules of a slot. -EUCLEAN: what is there is no image. -EPROTO: an image of
 * another ABI. */
int image_read(struct tree *t, dmm_u32 slot, struct dmm_class *ret);

#endif
