// SPDX-License-Identifier: Apache-2.0
#include <stddef.h>

#include "policyd/nrd/settings.h"

const char *const nrd_objective_words[] = {"latency", "throughput", "reliability", "cost", NULL};
