/* SPDX-License-Identifier: Apache-2.0 */
/* Frames for the steering programs, piece by piece; addresses are text. */
#ifndef DMM_TESTS_BPF_XDP_FRAME_H
#define DMM_TESTS_BPF_XDP_FRAME_H

struct frame {
	unsigned char b[256];
	unsigned len;
};

struct frame ether(unsigned type);
void append(struct frame *f, const void *data, unsigned len);
void append_ip4(struct frame *f, const char *src, const char *dst, int proto);
void append_ip6(struct frame *f, const char *src, const char *dst, int next);
void append_tcp(struct frame *f, unsigned sport, unsigned dport);
struct frame tcp4(const char *src, const char *dst, unsigned sport, unsigned dport);
struct frame udp(const char *src, const char *dst, unsigned sport, unsigned dport);
struct frame tagged(const struct frame *f, unsigned tci); /* IEEE 802.1Q */
struct frame tcp6(const char *src, const char *dst, unsigned sport, unsigned dport);

#endif
