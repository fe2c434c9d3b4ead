/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The native engine: DMM's own TCP. Like every engine it does no I/O and reads no clock.
 *
 * fast/input.c finds the connection and does the common case of an established one; slow/input.c
 * all else that a segment can mean. fast/ack.c: what an acknowledgment does. slow/loss.c: what was
 * lost (RACK, TLP, RTO); slow/recovery.c: how fast it is sent again; slow/mtu.c: how large a
 * segment may be; slow/gap.c: bytes out of order, SACK. fast/output.c: which segments go;
 * fast/packet.c: how one looks; rate.c: how fast they arrive. Life: slow/open.c handshakes,
 * slow/cookie.c SYN cookies, slow/close.c FIN, reset and TIME-WAIT, slow/timer.c. udp.c has nothing
 * to do with all of that.
 *
 * A connection that has something to send is queued, and has its turn at the end of poll(): so a
 * batch of received packets makes one acknowledgment and one burst. Sequence space that was sent is
 * a list of struct sent, one for each segment as it went out. The bytes themselves are in streams.
 */
#ifndef DMM_USERSTACK_NATIVE_H
#define DMM_USERSTACK_NATIVE_H

#include <sys/queue.h>

#include "userstack/engine.h"
#include "userstack/engine/native/bbr.h"
#include "userstack/engine/native/cc.h"
#include "userstack/engine/native/pool.h"
#include "userstack/engine/native/rate.h"
#include "userstack/engine/native/segment.h"
#include "userstack/engine/native/seq.h"
#include "userstack/engine/native/stream.h"
#include "userstack/engine/native/table.h"
#include "userstack/engine/native/wheel.h"

#define MS 1000000ull
#define SECOND (1000 * MS)
#define NEVER UINT64_MAX

#define TCP_WSCALE 7	     /* offered: a window of 8 MiB */
#define TCP_MSS_DEFAULT 536u /* RFC 9293, 3.7.1 */
#define TCP_MSS_DEFAULT6 1220u
#define TCP_MSS_MIN 48u		 /* what a peer may ask for: less is an attack */
#define TCP_OPTIONS_TS 12u	 /* bytes that timestamps take in every segment */
#define RTO_INITIAL (1 * SECOND) /* RFC 6298 */
#define RTO_SYN_AGAIN \
	(3 * SECOND) /* of data, when the SYN was sent again and tells nothing of the path: 5.7 */
#define RTO_VAR_MIN (200 * MS) /* of what is added to srtt, as in Linux */
#define RTO_MAX (60 * SECOND)
/* After 1, 2, 4 … s; given up after 255, when the kernel of an application has long done so
 * (RFC 9293, 3.8.3: R2 of a SYN is 3 minutes at least). */
#define SYN_RETRIES 7
#define SYN_ACK_RETRIES 5	/* where nobody waits: after 63 s, as in Linux */
#define TIME_WAIT (60 * SECOND) /* as in Linux */
#define BUFFER_INITIAL 65536u
#define SEND_BUFFER_MAX (4u << 20)
#define RECEIVE_BUFFER_MAX (6u << 20)
#define GAP_RANGES 64 /* islands of bytes out of order */
#define URGENT_MARKS 4
#define ADDRESSES_MAX 256
#define EXPECTED 4 /* packets, after which what was fetched is there */
#define PATHS 256  /* destinations whose path MTU is remembered */
#define LISTENER_BUCKETS 256
#define UDP_BUCKETS 4096
#define MTU_LEAST4 \
	552u /* for no ICMP we send less: too small is an attack (RFC 5927, 7.2). Of a path that \
	      * takes less the routers may cut: conn.no_df, as in Linux */
#define MTU_LEAST6 1280u
#define MTU_RAISE (600 * SECOND) /* then it may be more: RFC 8201, section 4; RFC 8899, 5.1.1 */

enum tcp_state {
	TCP_CLOSED,
	TCP_SYN_SENT,
	TCP_SYN_RCVD,
	TCP_ESTABLISHED,
	TCP_FIN_WAIT_1,
	TCP_FIN_WAIT_2,
	TCP_CLOSE_WAIT,
	TCP_CLOSING,
	TCP_LAST_ACK,
	TCP_TIME_WAIT,
};

/* What a connection waits for. One entry of the wheel serves them all. */
enum due {
	DUE_RETRANSMIT, /* RTO, TLP or window probe: conn.probe says which */
	DUE_REORDER,	/* RACK: then what is missing is lost */
	DUE_ACK,	/* delayed */
	DUE_PACE,
	DUE_LIFE, /* TIME-WAIT, FIN-WAIT-2 of a closed connection, keepalive */
	DUES,
};

enum probe { PROBE_NONE, PROBE_RTO, PROBE_TAIL, PROBE_WINDOW };

/* A segment that was sent and is not acknowledged. */
enum sent_state { SENT_FLYING, SENT_SACKED, SENT_LOST };
struct sent {
	TAILQ_ENTRY(sent) entry;      /* by sequence */
	TAILQ_ENTRY(sent) time_entry; /* FLYING: by the time of transmission; LOST: by sequence */
	uint64_t at;		      /* when it was sent last */
	uint32_t seq, end;
	uint8_t state;
	bool again; /* sent more than once */
	bool fin;
};
TAILQ_HEAD(sent_list, sent);

/* What each segment is where the congestion control wants samples: see conn.rate. */
struct sent_rated {
	struct sent sent;
	struct sent_rate rate;
};

struct range {
	uint32_t from, to;
	uint32_t stamp; /* grows with every change: RFC 2018 wants the latest first */
};

/* Bytes received out of order: which ones of rx are valid beyond rcv_nxt. */
struct gaps {
	unsigned n;
	uint32_t stamp;
	struct range range[GAP_RANGES]; /* by sequence, with gaps between */
};

struct engine_listener {
	struct engine *e;
	struct dmm_addr local;
	bool any; /* address */
	uint8_t tos;
	void *user;
	LIST_ENTRY(engine_listener) entry;
};

TAILQ_HEAD(conn_list, engine_conn);

struct engine_conn {
	/* looking up, receiving in order */
	struct conn_key key;
	uint32_t hash;
	uint8_t state; /* enum tcp_state */
	bool closed;   /* by the host: no events any more */
	bool v6, timestamps, sack, ecn;
	uint8_t snd_scale, rcv_scale;
	uint8_t tos;	    /* without the bits of ECN */
	uint32_t rcv_nxt;   /* next byte to come */
	uint32_t rcv_read;  /* next byte for the host */
	uint32_t rcv_adv;   /* right edge of the window as the peer knows it */
	uint32_t rcv_acked; /* acknowledgment sent last */
	uint32_t ts_recent, ts_offset;
	struct stream rx;

	/* acknowledgments, sending */
	uint32_t snd_una, snd_nxt;
	uint32_t snd_end; /* behind the last byte that the host gave; a FIN has this number */
	uint32_t snd_wnd, snd_wnd_max, snd_wl1, snd_wl2;
	uint32_t mss;		       /* payload of a full segment, without options */
	uint32_t flying, sacked, lost; /* bytes in each state */
	uint32_t cwnd, ssthresh;       /* bytes */
	uint32_t full_end;	       /* if cwnd_full: what was sent when something waited last */
	struct rate *rate;	       /* the congestion control's, if it wants samples */
	struct stream tx;
	struct sent_list sent, flight, missing; /* all; FLYING; LOST */
	uint64_t due[DUES];
	struct engine *e;
	TAILQ_ENTRY(engine_conn) out_entry, event_entry;
	struct timer timer;

	bool out_queued, event_queued;
	bool ack_now; /* owes an ACK in this turn */
	bool fin_queued, fin_sent, fin_seen, eof;
	bool want_room;
	bool host_knows; /* it has a `user`: connect() or accepted() */
	bool in_table, connecting;
	bool unpaced;	       /* what may go goes at once */
	bool cwnd_full;	       /* something waited for the congestion window, before full_end */
	bool urgent_out;       /* snd_up is not acknowledged */
	bool challenged;       /* TIME-WAIT: answered a SYN that did not end it */
	bool peer_gave_ts;     /* ts_recent is valid */
	bool dsack;	       /* to be reported */
	bool asked;	       /* the host wants to know of the next segment */
	bool ece_out, cwr_out; /* ECN: to be sent */
	uint8_t quick;	/* ACKs that are not to be delayed: a sender in slow start waits for them */
	uint8_t events; /* enum engine_event, to be reported */
	uint8_t probe;	/* enum probe: what DUE_RETRANSMIT is for */
	uint8_t backoff;  /* timeouts since a round trip was measured: each doubles the next */
	uint8_t no_room;  /* likewise, but the peer had no room: until it has */
	uint8_t timeouts; /* in a row, without anything acknowledged */
	uint8_t congestion;
	uint8_t dupacks; /* without SACK */
	uint8_t marks;
	uint8_t keepalives; /* sent without an answer */
	uint8_t mtu_tries;  /* that were lost, of one size */
	uint8_t syn_lost;   /* times that our SYN was sent and nothing came of it */
	bool syn_again;	    /* it was sent more than once */

	/* time */
	uint32_t srtt_us, rttvar_us, min_rtt_us;
	uint32_t segments, resent; /* struct engine_info */
	uint64_t min_rtt_at;
	uint64_t sent_at;     /* when data was sent last */
	uint64_t received_at; /* any segment */
	uint64_t progress_at; /* when something was acknowledged last, or began to wait */
	uint64_t rto_from;    /* what the retransmission timer counts from */
	uint64_t pace_at;     /* earliest next transmission */
	uint64_t ts_recent_at;
	uint64_t recover_at;   /* when recovery began */
	uint64_t challenge_at; /* when one may be sent again */

	/* RACK-TLP, recovery; RFC 8985, 6937, 5682 */
	uint64_t rack_at;
	uint32_t rack_end, rack_rtt_us, fack;
	struct sent *sack_at; /* SACKED last: what comes next is near; NULL: somewhere */
	struct {
		uint32_t from, to;
	} sack_done[4];	   /* what the last ACK said: most of it comes again with the next */
	uint32_t sacked_n; /* segments that are SACKED */
	uint32_t tlp_end, reorder_end;
	uint32_t recover; /* snd_nxt when it began: the end of it */
	uint32_t prr_delivered, prr_out, prr_from;
	uint32_t undo_cwnd, undo_ssthresh;
	uint32_t undo_again; /* segments that this recovery sent again and no DSACK is of */
	uint32_t undo_from;  /* snd_una when it began */
	uint32_t undo_ts;    /* our clock at the first retransmission */
	uint32_t ecn_from;   /* one reduction a window */
	uint8_t reorder_mult, reorder_keep;
	uint8_t frto; /* step of RFC 5682: 0 none, 1 timed out, 2 new data was sent */
	bool reorder_seen, tlp_out, tlp_again, undo_ok;
	bool no_df; /* routers may cut what is not larger than mtu */

	/* buffers */
	uint32_t snd_buf, rcv_buf;
	uint32_t rcv_mss;  /* largest segment that came */
	uint32_t tune_seq; /* rcv_read when measuring began */
	uint64_t tune_at;
	struct gaps *gaps; /* NULL: everything is in order */
	struct range dsack_range;
	uint32_t fin_seq; /* if fin_seen */
	uint32_t mark[URGENT_MARKS];
	uint32_t snd_up, iss, irs;
	uint32_t label;	    /* IPv6 flow label */
	uint32_t mss_peer;  /* as it said */
	uint32_t mtu;	    /* of the path, as far as is known */
	uint32_t mtu_high;  /* it may be as much */
	uint32_t mtu_probe; /* this is being tried; 0: nothing is */
	uint64_t mtu_raise_at;
	int error;
	struct engine_listener *listener; /* accepted, not reported */
	struct conn_list *in; /* of the engine's lists: the one that entry is in, or NULL */
	TAILQ_ENTRY(engine_conn) entry;
	void *user;

	const struct cc_ops *cc;
	union cc_state cc_state;
};

struct path {
	dmm_u8 ip[16];
	uint32_t mtu;
	bool no_df; /* as of a connection */
	uint64_t until;
};

/* What tests change, and in part the policy. */
struct native_tune {
	const struct cc_ops *cc;
	bool ecn;   /* ask for it; it is accepted anyway */
	bool nagle; /* the application's own kernel does that, on the carrier */
	bool pacing;
	uint64_t delayed_ack, keepalive;
	uint64_t user_timeout;	/* 0: nobody asks for one */
	unsigned half_open_max; /* beyond: SYN cookies */
	unsigned time_wait_max;
};

struct engine {
	struct engine_config c;
	struct native_tune tune;
	uint64_t now;
	struct table table;
	struct wheel wheel;
	struct pool conns, chunks, sents, gaps;
	struct pool rated, bbrs;     /* instead of sents, and beside a connection that has BBR */
	uint32_t expected[EXPECTED]; /* hashes of packets that come soon */
	unsigned expected_n;
	struct conn_list out, events; /* to be served, to be reported */
	struct conn_list half_open, unreported, time_wait;
	struct conn_list ended; /* the host has not closed them yet */
	struct conn_list dead;	/* to be freed, when nobody can hold a pointer any more */
	unsigned half_open_n, time_wait_n;
	uint64_t cookie_at; /* when one was given last */
	LIST_HEAD(, engine_listener) listeners[LISTENER_BUCKETS];
	LIST_HEAD(, engine_udp) udp[UDP_BUCKETS];
	dmm_u8 addr[ADDRESSES_MAX][16];
	unsigned addrs;
	struct path path[PATHS];
};

/* One of many: whatever comes next needs most of it, and its cache lines had better come together
 * than one after the other. */
static inline void conn_prefetch(const struct engine_conn *c)
{
	for (size_t at = 0; at < sizeof(*c); at += 64)
		__builtin_prefetch((const char *)c + at);
}
static inline uint32_t conn_window(const struct engine_conn *c)
{
	return c->rcv_adv - c->rcv_nxt;
}
/* Bytes that are neither here nor there: what the congestion window is held against. */
static inline uint32_t conn_flying(const struct engine_conn *c)
{
	uint32_t gone = c->sack ? 0 : c->dupacks * c->mss;

	return c->flying > gone ? c->flying - gone : 0;
}
/* Where its struct sent are from. */
static inline struct pool *conn_sents(const struct engine_conn *c)
{
	return c->rate ? &c->e->rated : &c->e->sents;
}
static inline struct sent_rate *sent_rate(struct sent *t)
{
	return &((struct sent_rated *)t)->rate;
}
static inline bool conn_synchronized(const struct engine_conn *c)
{
	return c->state >= TCP_ESTABLISHED;
}
static inline uint32_t conn_payload(const struct engine_conn *c)
{
	return c->mss - (c->timestamps ? TCP_OPTIONS_TS : 0);
}

/* A peer that answers may take its time (RFC 9293, 3.8.6.1), unless the application has left or has
 * said how long (RFC 5482): then only an ACK of bytes is progress. */
static inline bool conn_patient(const struct engine_conn *c)
{
	return !c->closed && !c->e->tune.user_timeout;
}

/* Of IP and TCP, without options: what an MSS is told without (RFC 6691). */
static inline uint32_t conn_plain_headers(const struct engine_conn *c)
{
	return c->v6 ? 60 : 40;
}

/* The window that a segment tells. That of a SYN is never scaled (RFC 7323, 2.2). */
static inline uint32_t conn_told_window(const struct engine_conn *c, const struct segment *s)
{
	return s->flags & TCP_SYN ? s->window : (uint32_t)s->window << c->snd_scale;
}

/* All that a full segment has beside its payload. */
static inline uint32_t conn_headers(const struct engine_conn *c)
{
	return conn_plain_headers(c) + (c->timestamps ? TCP_OPTIONS_TS : 0);
}

/* The clock that our timestamps tell. */
static inline uint32_t conn_ts(const struct engine_conn *c)
{
	return (uint32_t)(c->e->now / MS) + c->ts_offset;
}

/* conn.c */
struct engine_conn *conn_new(struct engine *e, const struct conn_key *key);
void conn_event(struct engine_conn *c, unsigned events, int error);
/* It has something to send: its turn comes before poll() ends. */
void conn_queue(struct engine_conn *c);
/* The protocol is done with it. The host may still read. */
void conn_end(struct engine_conn *c);
void conn_fail(struct engine_conn *c, int error);
void conn_move(struct engine_conn *c, struct conn_list *to);
/* Bytes in order that the host has not read. */
uint32_t conn_unread(const struct engine_conn *c);
void conn_set_due(struct engine_conn *c, enum due what, uint64_t at);
/* Nothing came of what was sent: perhaps another of several paths is better. */
void conn_change_path(struct engine_conn *c);
struct path *engine_path(struct engine *e, const dmm_u8 ip[16]);
/* What is known of the way to a host, or NULL. */
const struct path *engine_path_known(struct engine *e, const dmm_u8 ip[16]);
bool engine_is_local(const struct engine *e, const dmm_u8 ip[16]);
/* A segment, or bytes of it, did nothing. False. */
bool engine_drop(const struct engine *e, enum engine_drop why);
struct engine_listener *engine_listener(const struct engine *e, const struct dmm_addr *local);

/* conn-host.c: what the host asks for */
size_t conn_room(struct engine_conn *c);
ssize_t conn_send(struct engine_conn *c, const void *data, size_t len);
unsigned conn_reserve(struct engine_conn *c, size_t len, struct iovec *iov, unsigned n);
void conn_commit(struct engine_conn *c, size_t len);
ssize_t conn_send_urgent(struct engine_conn *c, const void *byte);
unsigned conn_peek(struct engine_conn *c, struct iovec *iov, unsigned n);
void conn_consume(struct engine_conn *c, size_t len);
void conn_tune_receive(struct engine_conn *c); /* the host has read something */
bool conn_urgent(struct engine_conn *c, size_t *ret);
void conn_info(const struct engine_conn *c, struct engine_info *ret);
void conn_unreachable(struct engine_conn *c, uint32_t seq, int error);
bool conn_ask(struct engine_conn *c);

/* fast/input.c, slow/input.c */
void native_expect(struct engine *e, const uint8_t *pkt, size_t len);
void native_input(struct engine *e, const uint8_t *pkt, size_t len, uint64_t now);
/* True: the segment is for whoever listens there now. */
bool slow_input(struct engine_conn *c, struct segment *s);
/* Bytes in order, from rcv_nxt on. */
void receive_data(struct engine_conn *c, const uint8_t *data, uint32_t len);
void receive_urgent(struct engine_conn *c, const struct segment *s);
/* Remember the peer's clock, if the segment is the one to tell it. */
void receive_timestamp(struct engine_conn *c, const struct segment *s);

/* fast/ack.c */
struct delivery {
	uint32_t acked;	 /* sequence space that snd_una moved by */
	uint32_t bytes;	 /* delivered by this: acknowledged or SACKed the first time */
	uint32_t sacked; /* of these: SACKed */
	uint64_t rtt;	 /* nanoseconds; 0: no sample */
	bool original;	 /* something was delivered that was sent once, before recovery began */
	uint32_t fack;	 /* conn.fack, and bytes flying, before this */
	uint32_t flying;
	bool dsack;
	uint32_t dsack_end;
	bool dup; /* the segment says nothing but that something arrived */
	bool ece;
};
void ack_receive(struct engine_conn *c, const struct segment *s);
void ack_delivered(struct engine_conn *c, struct delivery *d, struct sent *t, uint64_t now);
void rtt_sample(struct engine_conn *c, uint64_t rtt);
/* The round trip as the peer echoes our clock, in nanoseconds; 0: it does not. */
uint64_t rtt_echoed(const struct engine_conn *c, const struct segment *s);
uint64_t conn_rto(const struct engine_conn *c);

/* slow/loss.c */
void sent_set_state(struct engine_conn *c, struct sent *t, enum sent_state state);
void sent_free(struct engine_conn *c, struct sent *t);
void loss_sack(struct engine_conn *c, const struct segment *s, struct delivery *d);
/* From `at` on it is a segment of its own. False: no memory. */
bool sent_split(struct engine_conn *c, struct sent *t, uint32_t at);
/* What comes before `at` is done. */
void sent_cut(struct engine_conn *c, struct sent *t, uint32_t at);
/* Mark what is lost by now; true: something new is. */
bool loss_detect(struct engine_conn *c);
void loss_all(struct engine_conn *c);
void loss_arm(struct engine_conn *c);
void loss_tail_acked(struct engine_conn *c, const struct segment *s, const struct delivery *d);

/* slow/recovery.c */
void recovery_ack(struct engine_conn *c, const struct segment *s, const struct delivery *d,
		  bool lost);
void recovery_enter(struct engine_conn *c, enum congestion how);
void recovery_timeout(struct engine_conn *c);
/* The next timeout comes later. */
void recovery_backoff(struct engine_conn *c);

/* slow/mtu.c */
void mtu_start(struct engine_conn *c);
/* More than the path is known to take. */
bool mtu_exceeded(const struct engine_conn *c, const struct sent *t);
/* Such a segment was lost, or arrived. */
void mtu_lost(struct engine_conn *c, struct sent *t);
void mtu_passed(struct engine_conn *c, const struct sent *t);
/* The size of a packet that is to be tried now; 0: none. */
uint32_t mtu_to_try(struct engine_conn *c);
/* The retransmission timer fired. Is it the size? */
void mtu_timeout(struct engine_conn *c);
void conn_too_big(struct engine_conn *c, uint32_t seq, uint32_t mtu);
/* What an ICMP error makes of a path that is `said` to take so much, to a peer that takes max. */
struct mtu_told {
	uint32_t whole; /* what passes without being cut */
	uint32_t mtu;	/* what is sent: IPv6 paths take MTU_LEAST6, others at least MTU_LEAST4, */
	bool no_df;	/* in pieces if need be */
};
struct mtu_told mtu_told(uint32_t said, bool v6, uint32_t max);

/* slow/gap.c */
/* Bytes beyond rcv_nxt, in the window. */
void gap_receive(struct engine_conn *c, uint32_t seq, const uint8_t *data, uint32_t len);
/* rcv_nxt moved: what is in order now. */
void gap_close(struct engine_conn *c);
void gap_free(struct engine_conn *c);
void gap_duplicate(struct engine_conn *c, uint32_t from, uint32_t to);
unsigned gap_sack(struct engine_conn *c, struct range *ret, unsigned n);

/* fast/output.c */
void output_conn(struct engine_conn *c);
void output_ack(struct engine_conn *c);
/* Send a lost or unacknowledged segment again, or as much of it as fits. */
bool output_again(struct engine_conn *c, struct sent *t);
/* One segment of new data, whatever the congestion window says. False: there is none that fits. */
bool output_probe_new(struct engine_conn *c);
void output_window_probe(struct engine_conn *c);
/* The window that an ACK would advertise, as a right edge. */
uint32_t output_window_edge(const struct engine_conn *c);

/* fast/packet.c */
struct packet {
	const struct conn_key *key;
	uint32_t seq, ack;
	uint16_t window, urgent;
	uint8_t flags, tos; /* tos: IPv4's type of service or IPv6's traffic class */
	uint32_t label;	    /* IPv6 flow label; 0: that of the addresses */
	bool no_df;	    /* IPv4: it may be cut on its way */
	uint8_t options[40];
	unsigned options_len;
	uint32_t mss; /* the data is cut into so much; 0: it is not */
	struct iovec *data;
	unsigned data_n;
};
void packet_send(struct engine *e, const struct packet *p);
/* The IP header, of PACKET_IP_MAX bytes at most; returns its length. fragment: what IPv4 has there.
 * PACKET_WHOLE: don't fragment; the path's MTU is found by what comes back, and the ID means
 * nothing then (RFC 6864). */
struct packet_ip {
	uint8_t proto, tos;
	uint32_t fragment; /* IPv4 */
	uint32_t label;	   /* IPv6 */
};
size_t packet_ip(uint8_t *p, const struct conn_key *key, const struct packet_ip *h, size_t l4_len);
#define PACKET_IP_MAX 40
#define PACKET_WHOLE 0x4000u
/* The first of n IDs for packets that are cut, here or on their way. */
uint32_t packet_id(const struct engine *e, const struct conn_key *key, uint32_t n);
/* The IPv6 flow label of a pair, never 0; of IPv4: 0. before: the one that it had, for another; 0:
 * it had none. */
uint32_t packet_label(const struct engine *e, const struct conn_key *key, uint32_t before);
void packet_option_ts(struct packet *p, uint32_t value, uint32_t echo);
void packet_option_mss(struct packet *p, const struct engine *e);
void packet_option_sack_ok(struct packet *p);
void packet_option_scale(struct packet *p);
uint32_t engine_ts_offset(const struct engine *e, const struct conn_key *key);

/* slow/open.c */
int open_connect(struct engine *e, const struct conn_key *key, const struct cc_ops *cc, uint8_t tos,
		 void *user, struct engine_conn **ret);
/* A segment for a listener. before: the connection that it ended, or NULL. */
void open_listen(struct engine_listener *l, const struct conn_key *key, struct segment *s,
		 const struct engine_conn *before);
/* The MSS that a SYN says, or means by saying none. */
uint32_t open_peer_mss(const struct conn_key *key, const struct segment *s);
void open_syn_sent(struct engine_conn *c, const struct segment *s);
void open_send_syn(struct engine_conn *c);
void open_send_syn_again(struct engine_conn *c);
/* A SYN with an ACK of ours. */
void open_answered(struct engine_conn *c, const struct segment *s);
/* An ACK of our SYN. */
void open_established(struct engine_conn *c, const struct segment *s);

/* slow/cookie.c */
/* Answer a SYN and forget it. */
void cookie_answer(const struct engine_listener *l, const struct conn_key *key,
		   const struct segment *s);
/* True: s acknowledges such an answer, to this SYN. */
bool cookie_check(const struct engine *e, const struct conn_key *key, const struct segment *s,
		  struct segment *ret_syn);

/* slow/close.c */
int close_shutdown(struct engine_conn *c);
void close_close(struct engine_conn *c);
void close_abort(struct engine_conn *c);
void close_reset(struct engine_conn *c); /* send RST and end */
void close_fin_received(struct engine_conn *c);
void close_fin_acked(struct engine_conn *c);
void close_time_wait(struct engine_conn *c);
/* Ends c if a connection that the host is about to open may have its addresses. */
bool close_succeed(struct engine_conn *c);
/* In TIME-WAIT. True: the connection is gone, the segment is for whoever listens. */
bool close_time_wait_input(struct engine_conn *c, const struct segment *s);
/* Answer a segment that belongs to nothing, or acknowledges what cannot be. */
void close_refuse(struct engine *e, const struct conn_key *key, const struct segment *s,
		  enum engine_drop why);
void close_challenge(struct engine_conn *c);

/* slow/timer.c */
void timer_run(struct engine *e);
/* When bytes that nobody acknowledges have waited long enough. */
uint64_t timer_end(const struct engine_conn *c);

/* udp.c */
extern const struct engine_udp_ops native_udp;
/* A datagram, from its header on. */
void udp_input(struct engine *e, const struct conn_key *key, const uint8_t *udp, size_t len);
void udp_stop(struct engine *e);

#endif
