/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The few kernel types that the programs read beyond the UAPI, with the few members that they read.
 * Offsets come from the running kernel (CO-RE); a member that a kernel lacks is asked for with
 * bpf_core_field_exists() before it is read.
 */
#ifndef DMM_KERNEL_BPF_H
#define DMM_KERNEL_BPF_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	int counter;
} atomic_t;
typedef struct {
	long long counter;
} atomic64_t;

struct ns_common {
	unsigned int inum;
};
struct net {
	struct ns_common ns;
};
typedef struct {
	struct net *net;
} possible_net_t;

struct file {
	unsigned int f_flags;
};
struct sock;
struct socket {
	struct file *file;
	struct sock *sk;
};
struct sk_backlog {
	atomic_t rmem_alloc;
};
struct sock_common {
	unsigned short skc_family;
	volatile unsigned char skc_state;
	unsigned short skc_num;
	__be16 skc_dport;
	__be32 skc_daddr, skc_rcv_saddr;
	struct {
		__u8 in6[16];
	} skc_v6_daddr, skc_v6_rcv_saddr;
	possible_net_t skc_net;
	atomic64_t skc_cookie;
	int skc_bound_dev_if;
	unsigned long skc_flags;
	unsigned char skc_ipv6only : 1;
};
struct sock {
	struct sock_common __sk_common;
	struct socket *sk_socket;
	int sk_rcvlowat;
	int sk_peek_off;
	int sk_err;
	__u32 sk_priority;
	struct sk_backlog sk_backlog;
	__u16 sk_protocol;
	__u16 sk_type;
	__u8 sk_kern_sock : 1;
};
struct ipv6_pinfo {
	void *opt;
	union {
		__u16 all;
	} rxopt;
	__u8 tclass, min_hopcount;
	__s16 hop_limit;
	__u8 pmtudisc : 3;
	__u8 recverr : 1;
	__u8 dontfrag : 1;
};
struct inet_sock {
	struct sock sk;
	struct ipv6_pinfo *pinet6;
	void *inet_opt;
	unsigned long inet_flags;
	__u16 cmsg_flags;
	__s16 uc_ttl;
	__u8 tos, min_ttl, pmtudisc;
	__u8 recverr : 1;
};
struct inet_connection_sock {
	struct inet_sock icsk_inet;
	const void *icsk_ulp_ops;
};
struct tcp_sock {
	struct inet_connection_sock inet_conn;
	__u32 write_seq, copied_seq, rcv_nxt, snd_una;
	__u64 bytes_received, bytes_acked;
	__u32 srtt_us, total_retrans, segs_out;
	bool is_mptcp;
	void *md5sig_info, *ao_info;
	__u8 repair : 1;
	__u8 recvmsg_inq : 1;
};

typedef struct {
	unsigned int val;
} kuid_t;

struct cred {
	kuid_t uid;
} __attribute__((preserve_access_index));

struct task_struct {
	struct task_struct *group_leader;
	int tgid;
	char comm[16];
	const struct cred *cred;
};

struct seq_file;
struct bpf_iter_meta {
	struct seq_file *seq;
	__u64 session_id;
	__u64 seq_num;
};
struct bpf_iter__bpf_sk_storage_map {
	union {
		struct bpf_iter_meta *meta;
	};
	union {
		struct bpf_map *map;
	};
	union {
		struct sock *sk;
	};
	union {
		void *value;
	};
};

struct bpf_iter__bpf_map_elem {
	union {
		struct bpf_iter_meta *meta;
	};
	union {
		struct bpf_map *map;
	};
	union {
		void *key;
	};
	union {
		void *value;
	};
};

struct bpf_iter__task_file {
	union {
		struct bpf_iter_meta *meta;
	};
	union {
		struct task_struct *task;
	};
	__u32 fd;
	union {
		struct file *file;
	};
};

#pragma clang attribute pop

/* The value is the running kernel's: bpf_core_enum_value(). */
enum sock_flags { SOCK_ZEROCOPY = 1 };

#define AF_INET 2
#define AF_INET6 10
#define SOCK_STREAM 1
#define SOCK_DGRAM 2
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define IPPROTO_ICMP 1
#define IPPROTO_ICMPV6 58
#define SOL_SOCKET 1
#define SOL_TCP 6
#define SO_KEEPALIVE 9
#define SO_PRIORITY 12
#define SO_MARK 36
#define SO_MAX_PACING_RATE 47
#define TCP_CONGESTION 13
#define TCP_KEEPIDLE 4
#define TCP_USER_TIMEOUT 18
#define SOL_IP 0
#define SOL_IPV6 41
#define IP_TOS 1
#define IPV6_TCLASS 67
#define TCP_ESTABLISHED 1
#define TCP_SYN_SENT 2
#define TCP_CLOSE 7
#define TCP_CLOSE_WAIT 8
#define TCP_LISTEN 10
#define O_NONBLOCK 04000
#define EPERM 1
#define ECONNREFUSED 111
#define ENETUNREACH 101
#define ETIMEDOUT 110

/* A pointer as a number, which the verifier lets nobody calculate with otherwise. */
static __always_inline __u64 address_of(const void *sk)
{
	__u64 address = 0;

	bpf_probe_read_kernel(&address, sizeof(address), &sk);
	return address;
}

#endif
