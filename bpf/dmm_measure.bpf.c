// SPDX-License-Identifier: GPL-2.0-only
/*
 * Telemetry of connecting TCP sockets whose rule is measured (struct dmm_measured): how long they
 * took to connect, how they failed, what they were like when they ended. Attached while a rule is
 * measured. Nothing runs for each packet: the kernel has counted already what is read here, and a
 * socket that is not measured costs the look at its storage.
 */
#include "bpf/dmm_maps.bpf.h"

char LICENSE[] SEC("license") = "GPL";

#define GAVE_UP_US 1000000 /* who closes a socket that connects for so long has waited in vain */

static __always_inline void add(__u64 *to, __u64 n)
{
	__sync_fetch_and_add(to, n); /* a softirq may interrupt a system call here */
}

static __always_inline struct dmm_measures *measures_of(const struct dmm_measured *m)
{
	__u32 stack = m->stack;

	return bpf_map_lookup_elem(&dmm_measures, &stack);
}

static __always_inline void add_hist(__u64 *hist, __u64 value)
{
	__u32 bucket = dmm_hist_bucket(value);

	if (bucket < DMM_HIST_BUCKETS)
		add(&hist[bucket], 1);
}

static __always_inline void tell(const struct dmm_measured *m, struct dmm_sample *s)
{
	__u32 key = DMM_SAMPLE_SLOTS;
	struct dmm_sample *slot;
	__u64 told;

	s->measure = DMM_MEASURE_NUMBER(m->measure);
	s->stack = m->stack;
	__builtin_memcpy(s->remote, m->remote, sizeof(s->remote));
	slot = bpf_map_lookup_elem(&dmm_samples, &key);
	if (!slot)
		return;
	told = __sync_fetch_and_add(&slot->seq, 1);
	key = told % DMM_SAMPLE_SLOTS;
	slot = bpf_map_lookup_elem(&dmm_samples, &key);
	if (slot && !dmm_sample_put(slot, told, s))
		count(DMM_C_SAMPLE_LOST);
}

static __always_inline void add_failure(struct dmm_measures *all, __u32 error)
{
	__u32 failure = dmm_failure_of(error);

	if (error && failure < DMM_FAILURES)
		add(&all->failed[failure], 1);
}

static __always_inline void began(const struct dmm_measured *m, __u64 us, __u32 error)
{
	struct dmm_measures *all = measures_of(m);
	struct dmm_sample s = {.kind = DMM_SAMPLE_BEGIN, .error = error};

	if (!error)
		s.connect_us = us ? us : 1;
	if (all) {
		add(&all->connections, 1);
		add_failure(all, error);
		if (!error)
			add_hist(all->connect, us);
	}
	tell(m, &s);
}

static __always_inline void ended(const struct dmm_measured *m, struct tcp_sock *tp, __u64 us)
{
	struct dmm_measures *all = measures_of(m);
	struct dmm_sample s = {
		.kind = DMM_SAMPLE_END,
		.error = tp->inet_conn.icsk_inet.sk.sk_err,
		.srtt_us = tp->srtt_us >> 3,
		.bytes = tp->bytes_received + tp->bytes_acked,
		.life_us = us,
		.segments = tp->segs_out,
		.resent = tp->total_retrans,
	};

	if (all) {
		add(&all->ended, 1);
		add(&all->life_us, us);
		add_failure(all, s.error);
		add(&all->rx_bytes, tp->bytes_received);
		add(&all->tx_bytes, tp->bytes_acked);
		add(&all->segments, s.segments);
		add(&all->resent, s.resent);
		add_hist(all->srtt, s.srtt_us);
	}
	tell(m, &s);
}

/* Once: what comes after is of another connect(). */
static __always_inline void closed(struct bpf_sock *sk, struct dmm_measured *m, __u64 now)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	__u64 us = (now - m->begin_ns) / 1000;
	__u32 error;

	if (!tp || !m->begin_ns)
		return;
	error = tp->inet_conn.icsk_inet.sk.sk_err;
	if (m->established_ns) {
		if (m->carrier == DMM_CARRIER_NONE) /* else its instance tells, and knows more */
			ended(m, tp, us);
	} else if (error || us >= GAVE_UP_US) {
		began(m, us, error ? error : ETIMEDOUT);
	}
	m->begin_ns = 0;
}

SEC("sockops")
int dmm_measure(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct dmm_measured *m;
	__u32 op = ctx->op;

	if (op != BPF_SOCK_OPS_TCP_CONNECT_CB && op != BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB &&
	    op != BPF_SOCK_OPS_STATE_CB)
		return 1;
	if (op == BPF_SOCK_OPS_STATE_CB && ctx->args[1] != TCP_CLOSE)
		return 1;
	if (!sk)
		return 1;
	m = bpf_sk_storage_get(&dmm_measured, sk, NULL, 0);
	if (!m)
		return 1;
	switch (op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		m->begin_ns = bpf_ktime_get_ns();
		m->established_ns = 0;
		bpf_sock_ops_cb_flags_set(ctx,
					  ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
		break;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		if (!m->begin_ns || m->established_ns)
			break;
		m->established_ns = bpf_ktime_get_ns();
		began(m, (m->established_ns - m->begin_ns) / 1000, 0);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		closed(sk, m, bpf_ktime_get_ns());
		break;
	}
	return 1;
}
