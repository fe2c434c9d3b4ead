// SPDX-License-Identifier: Apache-2.0
#include "lib/base/log.h"
#include "policyd/ctl.h"

int main(int argc, char **argv)
{
	log_init("dmm-policy", LOG_L_WARNING);
	return ctl_run(argc, argv);
}
