/* SPDX-License-Identifier: Apache-2.0 */
/* The engines there are: those built in, and plug-ins by name. */
#ifndef DMM_USERSTACK_ENGINES_H
#define DMM_USERSTACK_ENGINES_H

#include "userstack/engine.h"

#define ENGINE_DIR_ENV "DMM_ENGINE_DIR" /* instead of where plug-ins are installed */
#define ENGINE_SYMBOL "dmm_engine"

extern const struct engine_ops engine_lwip, engine_native;

/*
 * The engine of that name. One that is not built in is NAME.so of the plug-in directory, which
 * stays loaded. Failures are logged: -ENOENT, -EPERM (others may write the file), -EINVAL (no
 * plug-in), -EPROTO (made for another version of the contract).
 */
int engine_find(const char *name, const struct engine_ops **ret);

#endif
