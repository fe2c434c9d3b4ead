// SPDX-License-Identifier: Apache-2.0
/* What a host says of itself. */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <ifaddrs.h>
#include <jansson.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/addr.h"
#include "lib/base/util.h"
#include "policyd/fleet/shared.h"

#define ADDRESSES 256
#define DEVICES 64

/* Addresses by which others reach it: no loopback, none of one link. */
static int read_addresses(struct host_facts *f)
{
	struct ifaddrs *list, *i;

	f->address = calloc(ADDRESSES, sizeof(*f->address));
	if (!f->address)
		return -ENOMEM;
	if (getifaddrs(&list) < 0)
		return 0;
	for (i = list; i && f->n_address < ADDRESSES; i = i->ifa_next) {
		struct policy_prefix *to = &f->address[f->n_address];

		if (!i->ifa_addr || i->ifa_flags & IFF_LOOPBACK)
			continue;
		to->plen = 128;
		if (i->ifa_addr->sa_family == AF_INET) {
			addr_from_v4(to->ip,
				     ((struct sockaddr_in *)(void *)i->ifa_addr)->sin_addr.s_addr);
			f->n_address++;
		} else if (i->ifa_addr->sa_family == AF_INET6) {
			const struct in6_addr *a =
				&((struct sockaddr_in6 *)(void *)i->ifa_addr)->sin6_addr;

			memcpy(to->ip, a, 16);
			f->n_address += !IN6_IS_ADDR_LINKLOCAL(a);
		}
	}
	freeifaddrs(list);
	return 0;
}

static int read_rdma(struct host_facts *f)
{
	DIR *dir;
	const struct dirent *e;

	f->rdma = calloc(DEVICES, sizeof(*f->rdma));
	if (!f->rdma)
		return -ENOMEM;
	dir = opendir("/sys/class/infiniband");
	while (dir && f->n_rdma < DEVICES && (e = readdir(dir)))
		if (e->d_name[0] != '.')
			snprintf(f->rdma[f->n_rdma++], DMM_NAME_LEN, "%.31s", e->d_name);
	if (dir)
		closedir(dir);
	return 0;
}

int host_facts_read(struct host_facts *ret, const char *name, const struct dmm_policy *p)
{
	int r;

	*ret = (struct host_facts){0};
	snprintf(ret->name, sizeof(ret->name), "%s", name);
	if (!name[0] && gethostname(ret->name, sizeof(ret->name) - 1) < 0)
		snprintf(ret->name, sizeof(ret->name), "unnamed");
	ret->stack = calloc(p->n_stacks + 1, sizeof(*ret->stack));
	if (!ret->stack)
		return -ENOMEM;
	for (size_t i = 0; i < p->n_stacks; i++)
		memcpy(ret->stack[ret->n_stack++], p->stacks[i].rec.name, DMM_NAME_LEN);
	r = read_addresses(ret);
	return r < 0 ? r : read_rdma(ret);
}

void host_facts_fini(struct host_facts *f)
{
	free(f->stack);
	free(f->address);
	free(f->rdma);
	*f = (struct host_facts){0};
}

char *host_facts_format(const struct host_facts *f)
{
	json_t *root = json_pack("{s:i, s:s, s:s, s:[], s:[], s:[]}", "version", 1, "name", f->name,
				 "dmm", DMM_VERSION, "stacks", "addresses", "rdma");
	char ip[ADDR_STRLEN], *text;

	for (size_t i = 0; i < f->n_stack; i++)
		json_array_append_new(json_object_get(root, "stacks"), json_string(f->stack[i]));
	for (size_t i = 0; i < f->n_address; i++)
		json_array_append_new(
			json_object_get(root, "addresses"),
			json_string(addr_format_ip(f->address[i].ip, ip, sizeof(ip))));
	for (size_t i = 0; i < f->n_rdma; i++)
		json_array_append_new(json_object_get(root, "rdma"), json_string(f->rdma[i]));
	text = root ? json_dumps(root, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;
	json_decref(root);
	return text;
}
