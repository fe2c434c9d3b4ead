// SPDX-License-Identifier: Apache-2.0
/*
 * garbage: raw frames onto an interface that no decent host sends: mutated, truncated and padded
 * Ethernet, IP, TCP and ICMP, to ports and flows that the other end owns. Three of four have right
 * checksums all the same, so that they come as far as they can.
 *
 *   garbage INTERFACE DST_MAC COUNT SEED FROM TO [FROM TO]...
 *
 * FROM and TO: address and port, separated by a comma; port 0: a random one for each frame.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define TARGETS 8
#define FRAME_MAX 1514
#define ETH_LEN 14

struct target {
	bool v6;
	uint8_t from[16], to[16];
	uint16_t from_port, to_port;
};

struct buffer {
	uint8_t b[FRAME_MAX];
	size_t len;
};

static unsigned pick(unsigned n)
{
	return (unsigned)random() % n;
}

static void put(struct buffer *f, const void *data, size_t len)
{
	memcpy(f->b + f->len, data, len);
	f->len += len;
}

static void put16(struct buffer *f, unsigned v)
{
	put(f, (uint8_t[]){(uint8_t)(v >> 8), (uint8_t)v}, 2);
}

static void put_random(struct buffer *f, size_t len)
{
	while (len--)
		f->b[f->len++] = (uint8_t)random();
}

/* One's complement sum of len bytes onto sum. */
static uint32_t sum16(const uint8_t *p, size_t len, uint32_t sum)
{
	for (size_t i = 0; i < len; i++)
		sum += i & 1 ? p[i] : (uint32_t)p[i] << 8;
	return sum;
}

static void set_sum(uint8_t *field, uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	field[0] = (uint8_t)(~sum >> 8);
	field[1] = (uint8_t)~sum;
}

/* A TCP header with random flags and options; back: of the other direction. */
static void put_tcp(struct buffer *f, const struct target *t, bool back)
{
	static const uint8_t flags[] = {0x02, 0x10, 0x18, 0x11, 0x04, 0x12, 0x00, 0xff, 0x29};
	unsigned from = t->from_port ? t->from_port : pick(65536);
	unsigned to = t->to_port ? t->to_port : pick(65536), options = pick(11) * 4;

	put16(f, back ? to : from);
	put16(f, back ? from : to);
	put_random(f, 8); /* sequence, acknowledgement */
	f->b[f->len++] = (uint8_t)((5 + options / 4) << 4);
	f->b[f->len++] = flags[pick(sizeof(flags))];
	put_random(f, 6); /* window, checksum, urgent */
	if (pick(2)) {
		put_random(f, options);
		return;
	}
	/* options that look right, with a length that need not be */
	for (unsigned left = options; left;) {
		unsigned kind = pick(9), len = left < 4 ? left : 4;

		put(f, (uint8_t[]){(uint8_t)kind, (uint8_t)pick(left + 3), 5, 180}, len);
		left -= len;
	}
}

static void put_ip(struct buffer *f, const struct target *t, bool back, unsigned proto, size_t len)
{
	const uint8_t *src = back ? t->to : t->from, *dst = back ? t->from : t->to;

	if (t->v6) {
		put16(f, 0x6000);
		put16(f, 0);
		put16(f, (unsigned)len);
		put(f, (uint8_t[]){(uint8_t)proto, 64}, 2);
		put(f, src, 16);
		put(f, dst, 16);
		return;
	}
	put16(f, 0x4500);
	put16(f, 20 + (unsigned)len);
	put_random(f, 2);
	put16(f, pick(4) ? 0x4000 : 0);
	put(f, (uint8_t[]){64, (uint8_t)proto, 0, 0}, 4);
	put(f, src, 4);
	put(f, dst, 4);
}

/* The IP header at p and what follows get right checksums, as far as there is something. */
static void set_sums(uint8_t *p, size_t len)
{
	bool v6 = p[0] >> 4 == 6;
	size_t hdr = v6 ? 40 : 20, at;
	unsigned proto = p[v6 ? 6 : 9];
	uint32_t sum = 0;

	if (len < hdr + 20)
		return;
	if (!v6) {
		memset(p + 10, 0, 2);
		set_sum(p + 10, sum16(p, 20, 0));
	}
	at = proto == IPPROTO_TCP ? 16 : 2;
	if (proto != IPPROTO_ICMP) {
		sum = sum16(p + (v6 ? 8 : 12), v6 ? 32 : 8, proto);
		sum += (uint32_t)(len - hdr);
	}
	memset(p + hdr + at, 0, 2);
	set_sum(p + hdr + at, sum16(p + hdr, len - hdr, sum));
}

/* An ICMP error that quotes a segment of the flow. */
static void put_icmp(struct buffer *f, const struct target *t)
{
	struct buffer quoted = {.len = 0};

	put_ip(&quoted, t, true, IPPROTO_TCP, 20);
	put_tcp(&quoted, t, true);
	if (!t->v6)
		set_sum(quoted.b + 10, sum16(quoted.b, 20, 0));
	quoted.len = pick(4) ? quoted.len : pick((unsigned)quoted.len + 1);
	put_ip(f, t, false, t->v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP, 8 + quoted.len);
	put(f, (uint8_t[]){(uint8_t)(t->v6 ? 1 + pick(4) : 3 + 8 * pick(2)), (uint8_t)pick(17)}, 2);
	put_random(f, 2);
	put16(f, 0);
	put16(f, pick(2) ? pick(1501) : 0);
	put(f, quoted.b, quoted.len);
}

static void make(struct buffer *f, const struct target *t, const uint8_t *dst, const uint8_t *src)
{
	size_t ip_len;

	f->len = 0;
	put(f, dst, 6);
	put(f, src, 6);
	put16(f, t->v6 ? ETHERTYPE_IPV6 : ETHERTYPE_IP);
	if (pick(5) == 0) {
		put_icmp(f, t);
	} else {
		struct buffer l4 = {.len = 0};

		put_tcp(&l4, t, false);
		put_random(&l4, pick(2) ? 0 : pick(600));
		put_ip(f, t, false, IPPROTO_TCP, l4.len);
		put(f, l4.b, l4.len);
	}
	for (unsigned n = pick(3) ? 0 : pick(8); n; n--)
		f->b[ETH_LEN + pick((unsigned)f->len - ETH_LEN)] = (uint8_t)random();
	ip_len = f->len - ETH_LEN;
	if (pick(4))
		set_sums(f->b + ETH_LEN, ip_len);
	switch (pick(8)) {
	case 0: /* cut off */
		f->len = ETH_LEN + pick((unsigned)ip_len + 1);
		break;
	case 1: /* padded */
		put_random(f, pick((unsigned)(FRAME_MAX - f->len) + 1));
		break;
	case 2: /* not even the type */
		if (pick(8) == 0)
			f->b[12 + pick(2)] = (uint8_t)random();
		break;
	}
}

static bool parse_end(char *text, uint8_t *ip, uint16_t *port, bool *v6)
{
	char *comma = strchr(text, ',');

	if (!comma)
		return false;
	*comma = '\0';
	*port = (uint16_t)atoi(comma + 1);
	*v6 = strchr(text, ':');
	return inet_pton(*v6 ? AF_INET6 : AF_INET, text, ip) == 1;
}

static bool parse_targets(int argc, char **argv, struct target *ret)
{
	bool to6;

	for (int i = 0; i + 1 < argc; i += 2, ret++) {
		if (!parse_end(argv[i], ret->from, &ret->from_port, &ret->v6) ||
		    !parse_end(argv[i + 1], ret->to, &ret->to_port, &to6) || ret->v6 != to6)
			return false;
	}
	return true;
}

int main(int argc, char **argv)
{
	struct sockaddr_ll sa = {.sll_family = AF_PACKET};
	uint8_t dst[6], src[6] = {2, 0, 0, 0, 0, 1};
	struct target targets[TARGETS];
	int n = (argc - 5) / 2, fd;
	unsigned long sent = 0;
	struct buffer f;

	if (argc < 7 || argc % 2 == 0 || n > TARGETS ||
	    sscanf(argv[2], "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &dst[0], &dst[1], &dst[2], &dst[3],
		   &dst[4], &dst[5]) != 6 ||
	    !parse_targets(argc - 5, argv + 5, targets)) {
		fputs("usage: garbage INTERFACE DST_MAC COUNT SEED FROM,PORT TO,PORT ...\n",
		      stderr);
		return 2;
	}
	sa.sll_ifindex = (int)if_nametoindex(argv[1]);
	fd = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
	if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
		fprintf(stderr, "garbage: %s: %s\n", argv[1], strerror(errno));
		return 1;
	}
	srandom((unsigned)atoi(argv[4]));
	for (unsigned long i = strtoul(argv[3], NULL, 10); i; i--) {
		make(&f, &targets[pick((unsigned)n)], dst, src);
		sent += send(fd, f.b, f.len, 0) == (ssize_t)f.len;
		if (i % 64 == 0)
			usleep(1000); /* the receive ring shall see most of it */
	}
	printf("%lu sent\n", sent);
	close(fd);
	return 0;
}
