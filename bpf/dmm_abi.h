/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * The one contract between the BPF programs and userspace: every record that lies in a map, what
 * each field means and what each special value means; those of telemetry are in dmm_telemetry.h.
 * Included by both sides, includes nothing.
 *
 * Conventions: addresses are 16 bytes in network byte order, IPv4 as v4-mapped (::ffff:a.b.c.d);
 * ports are host byte order; times are CLOCK_MONOTONIC nanoseconds; names are NUL-terminated;
 * padding is a named member and always zero (hash keys are compared as bytes). Every change of a
 * layout or a meaning raises DMM_ABI_VERSION: programs and maps of another version are refused.
 */
#ifndef DMM_ABI_H
#define DMM_ABI_H

typedef unsigned char dmm_u8;
typedef unsigned short dmm_u16;
typedef unsigned int dmm_u32;
typedef unsigned long long dmm_u64;

#define DMM_ABI_VERSION 27

#define DMM_NAME_LEN 32		 /* names of groups, stacks, rules, with the NUL */
#define DMM_PROGRAM_LEN 16	 /* name of a program, as the kernel keeps it, with the NUL */
#define DMM_PATH_LEN 192	 /* cgroup path below the cgroup2 mount, source file names */
#define DMM_MAX_GROUPS 64	 /* group ids are 1 … MAX-1; 0 is "no group" */
#define DMM_MAX_STACKS 32	 /* stack ids are 0 … MAX-1 */
#define DMM_MAX_QUEUES 64	 /* receive queues that an instance can serve */
#define DMM_MAX_THREADS 8	 /* of an instance, which has 1, 2, 4 or 8 */
#define DMM_MAX_RULES 65536	 /* rule indices 0 … MAX-1, in the order of evaluation */
#define DMM_MAX_USE 6		 /* stacks in one rule's list of preference */
#define DMM_MAX_MEASURED 1024	 /* rules that are measured; numbers 1 … MAX */
#define DMM_MAX_CHOICES 16384	 /* rules and prefixes that nRD has chosen for */
#define DMM_MAX_PENDING 65536	 /* connects in progress through an instance, per host */
#define DMM_MAX_LISTENS 4096	 /* announced listeners, per host */
#define DMM_MAX_ROUTES 65536	 /* published prefixes of all instances */
#define DMM_MAX_PAIRS 65536	 /* sockets in the splice hash */
#define DMM_EVENT_RING (1 << 20) /* bytes of one instance's event ring */
#define DMM_EVENT_RING_FULL (DMM_EVENT_RING / 16 * 15) /* the rest is for listeners */

/* Fixed ids. */
#define DMM_STACK_KERNEL 0	  /* the stack named "kernel", always there */
#define DMM_STACK_NONE 255	  /* a verdict that names no stack: reject */
#define DMM_RULE_NONE 0xffffffffu /* no rule matched: the policy's default */
#define DMM_GROUP_NONE 0

/* SO_MARK of packets that an instance injects; the hold filter lets them pass. */
#define DMM_MARK 0x646d6d01

/* An endpoint. All zero means unknown or any. */
struct dmm_addr {
	dmm_u8 ip[16];
	dmm_u16 port;
	dmm_u16 pad;
};

/* enum dmm_role: which end of the connection the socket is. Also a bit number in dmm_match.roles.
 */
enum dmm_role { DMM_ROLE_CLIENT, DMM_ROLE_SERVER, DMM_ROLES };

/* enum dmm_kind: how a stack carries a socket. */
enum dmm_kind {
	DMM_KIND_FREE,	    /* this stack id is not in use */
	DMM_KIND_KERNEL,    /* the kernel's TCP, with optional settings */
	DMM_KIND_USERSPACE, /* a dmm-stackd instance behind a carrier */
	DMM_KIND_REJECT,    /* connect() fails, see enum dmm_reject */
	DMM_KINDS
};

/* enum dmm_reject: what connect() says of a rejected socket. */
enum dmm_reject {
	DMM_REJECT_REFUSED,	/* ECONNREFUSED */
	DMM_REJECT_UNREACHABLE, /* ENETUNREACH */
	DMM_REJECT_PERMISSION,	/* EPERM */
	DMM_REJECTS
};

/* enum dmm_carrier: what moves the bytes between an application and its instance. */
enum dmm_carrier {
	DMM_CARRIER_NONE,   /* the kernel stack carries the socket itself */
	DMM_CARRIER_TCP,    /* a loopback TCP connection */
	DMM_CARRIER_SPLICE, /* the same, both ends joined by sk_msg */
	DMM_CARRIER_UDP,    /* a pair of UDP sockets over loopback */
	DMM_CARRIERS
};

/*
 * dmm_meta[0]. slot = generation & 1 names the image and the half of dmm_stack that are in force;
 * one aligned 8-byte store of generation switches both. Generation 0 is the empty policy:
 * everything on the kernel stack. building is raised to n before anything of the slot that will be
 * generation n is touched: a reader of generation g that finds building > g + 1 at its end has read
 * from a slot that was being written, and starts again.
 */
struct dmm_meta {
	dmm_u64 generation;
	dmm_u64 building;
	dmm_u64 build;	      /* identifies the BPF objects that the programs came from */
	dmm_u64 committed_ns; /* CLOCK_REALTIME ns of the last commit */
	dmm_u32 abi;	      /* DMM_ABI_VERSION */
	dmm_u32 rules;	      /* of the generation in force: entries of dmm_hits that are in use */
	dmm_u64 monitor_until_ns; /* until then verdicts are told in dmm_monitor; who listens puts
				     it off again and again */
	dmm_u64 monitor_told;	  /* how many ever were */
};
#define DMM_MONITOR_NS 3000000000ULL /* how far who listens puts it off */

/*
 * dmm_image[slot]: the rules of one generation, an array of cells of 64 bytes that grows with the
 * policy. In this order:
 *
 *	struct dmm_class_hdr (DMM_HDR_CELLS)
 *	struct dmm_table, one for each enum dmm_table_id
 *	struct dmm_rule_rec, one for each rule, and room for more
 *	the match of each rule and room for more, sets and file names, as bytes that only userspace
 *	reads
 *	tables, classes and chunks, in the order in which they were made
 *
 * A record that is all zero is a place that is free: no rule, in no class. Edits of single rules
 * leave such places, and classes that nothing leads to any more.
 *
 * A socket has a value in each field. A table leads from the value to a class: the set of rules
 * that restrict the field and take the value. Rules that do not restrict the field are its wild
 * class. The rules that fit are the intersection, over all fields, of class and wild class; the
 * lowest decides.
 *
 * A class is named by a dmm_ref. 0: no rule. DMM_REF_ONE set: all of its rules are in one chunk
 * (DMM_REF_CHUNK), whose cell are the low 24 bits. Else the cell at which it begins: a bit for each
 * chunk that is not empty (q[0], q[1]), then, from the fifth 32-bit word on and into the cells that
 * follow, the cells of these chunks in rising order. A chunk is one cell: a bit for each of
 * DMM_CHUNK_RULES rules. Equal chunks and equal classes are there once.
 */
struct dmm_cell {
	union {
		dmm_u64 q[8];
		dmm_u32 w[16];
		dmm_u8 b[64];
	};
};
#define DMM_CHUNK_RULES 512
#define DMM_CHUNKS (DMM_MAX_RULES / DMM_CHUNK_RULES)
typedef dmm_u32 dmm_ref;
#define DMM_REF_ONE 0x80000000u
#define DMM_REF_CHUNK(ref) ((ref) >> 24 & 127)
#define DMM_REF_CELL(ref) ((ref)&0xffffff)
#define DMM_CLASS_WORDS 4      /* 32-bit words of a class before its chunks */
#define DMM_MAX_CELLS 0xffffff /* of an image */

/* enum dmm_field: what rules match on. */
enum dmm_field {
	DMM_FIELD_HEAD, /* group, role and protocol together: DMM_HEAD_INDEX */
	DMM_FIELD_REMOTE,
	DMM_FIELD_LOCAL,
	DMM_FIELD_REMOTE_PORT,
	DMM_FIELD_LOCAL_PORT,
	DMM_FIELD_UID,
	DMM_FIELD_PROGRAM,
	DMM_FIELDS
};
#define DMM_HEAD_INDEX(group, role, proto) \
	((group) << 3 | (role) << 2 | ((proto) == 6 ? 0 : (proto) == 17 ? 1 : 2))
#define DMM_HEADS (DMM_MAX_GROUPS << 3)

/* enum dmm_table_id: IPv4 and IPv6 addresses have tables of their own. */
enum dmm_table_id {
	DMM_TABLE_HEAD, /* direct: a dmm_ref for each DMM_HEAD_INDEX, from level[0] on */
	DMM_TABLE_REMOTE4,
	DMM_TABLE_LOCAL4,
	DMM_TABLE_REMOTE_PORT,
	DMM_TABLE_LOCAL_PORT,
	DMM_TABLE_UID,
	DMM_TABLE_REMOTE6,
	DMM_TABLE_LOCAL6,
	DMM_TABLE_PROGRAM,
	DMM_TABLES
};

/*
 * The numbers of a field cut into intervals, each named by its last number; the last interval ends
 * at the last number. A tree, level by level: level[l] is the first cell of a level, level[depth -
 * 1] are the leaves. Child k of node i of a level is node i * N + k of the next; keys are the last
 * number of each child. Narrow (32 bits): N is 16, a leaf has 8 keys in w[0 … 7] and their classes
 * in w[8 … 15]. Wide (128 bits, the high half first): N is 4, a leaf has 3 keys in q[0 … 5] and
 * their classes in w[12 … 14]. What is not in use has the last number as its key. depth 0: no class
 * at all.
 */
struct dmm_table {
	dmm_u32 depth;
	dmm_u32 level[12];
	dmm_u32 room; /* cells from the leaves on that are the table's own, its levels among them */
	dmm_u32 pad[2];
};
#define DMM_NARROW_LEVELS 6
#define DMM_WIDE_LEVELS 12

struct dmm_class_hdr {
	dmm_u32 abi;	/* DMM_ABI_VERSION */
	dmm_u32 rules;	/* records from cell DMM_RULE_CELL on, free places among them */
	dmm_u32 stacks; /* highest stack id in use + 1, in dmm_stack from slot * DMM_MAX_STACKS */
	dmm_u32 fields; /* bit 1 << enum dmm_field: a rule restricts it */
	dmm_ref wild[DMM_FIELDS];
	dmm_u8 use[DMM_MAX_USE]; /* what the default is: stacks in order of preference */
	dmm_u8 n_use;
	dmm_u8 strict;	/* as dmm_rule_rec.strict */
	dmm_u32 cells;	/* of the whole image */
	dmm_u64 groups; /* bit 1 << id: the group is in force; that of DMM_GROUP_NONE always */
	/* the second cell; lengths in bytes */
	dmm_u32 match_cell, match_len;
	dmm_u32 set_cell, set_len;
	dmm_u32 file_cell, file_len;
	dmm_u32 table_cell; /* where tables, classes and chunks begin */
	dmm_u32 whole; /* cells when all of it was made; what edits have left behind is above */
	dmm_u32 pad[8];
};
#define DMM_HDR_CELLS 2
#define DMM_TABLE_CELL(id) (DMM_HDR_CELLS + (id))
#define DMM_RULE_CELL (DMM_HDR_CELLS + DMM_TABLES)

/*
 * What was found for connecting sockets, by a hash of all that it was found by. "Found" are
 * DMM_MEMO_BITS bits: the rule or DMM_MEMO_DEFAULT, and with DMM_MEMO_FIXED that all of these
 * sockets get the stack DMM_MEMO_STACK, a kernel stack without settings, while that is not switched
 * off. Any program may write an entry at any time; all of its words are held together, so that a
 * reader takes no entry that is of two writers.
 *
 * dmm_memo: where no rule asks for program or user, IPv4 destinations, four in a cache line. who is
 * destination, port, group and kind, in an exclusive or with a hash of what; what is the generation
 * and, in the low bits, what was found.
 *
 * dmm_memo_wide: all others. word[0 … 6] are generation, remote address, port and kind, program,
 * and user beside what was found; seal is a hash of them.
 */
struct dmm_memo {
	struct dmm_memo_entry {
		dmm_u64 who, what;
	} entry[4];
};
struct dmm_memo_wide {
	dmm_u64 seal;
	dmm_u64 word[7];
};
#define DMM_MEMO_LINES_BITS 15
#define DMM_MEMO_WIDE_BITS 16
#define DMM_MEMO_BITS 24
#define DMM_MEMO_RULE(found) ((found)&0xffff)
#define DMM_MEMO_DEFAULT (1u << 16)
#define DMM_MEMO_FIXED (1u << 17)
#define DMM_MEMO_STACK_SHIFT 18
#define DMM_MEMO_STACK(found) ((found) >> DMM_MEMO_STACK_SHIFT & (DMM_MAX_STACKS - 1))

/* enum dmm_congestion: what a rule can say of the connections that an instance carries. */
enum dmm_congestion {
	DMM_CONGESTION_NONE, /* none is named: as the stack says, or its engine chooses */
	DMM_CONGESTION_CUBIC,
	DMM_CONGESTION_NEWRENO,
	DMM_CONGESTION_DCTCP,
	DMM_CONGESTION_BBR,
	DMM_CONGESTIONS
};
#define DMM_CONGESTION_WORDS "cubic", "newreno", "dctcp", "bbr" /* from CUBIC on */

/* enum dmm_origin: whose a rule is. The operator's come first. */
enum dmm_origin { DMM_ORIGIN_OPERATOR, DMM_ORIGIN_NRD };

/* What a matching socket gets: one cell. */
struct dmm_rule_rec {
	char name[DMM_NAME_LEN];
	dmm_u32 line;		     /* 1-based; 0 when file is 0 */
	dmm_u16 file;		     /* where the rule was read: number of a file name; 0: added by
					hand */
	dmm_u16 weight[DMM_MAX_USE]; /* all 0: use is an order of preference; else stack i comes
					first for weight[i] of their sum of connections */
	dmm_u8 use[DMM_MAX_USE];     /* stack ids in order of preference */
	dmm_u8 n_use;
	dmm_u8 strict;	/* 1: when no stack of the list can serve, connect() fails; 0: kernel stack
			 */
	dmm_u8 carrier; /* enum dmm_carrier wanted: TCP or SPLICE (where its gate allows) */
	dmm_u8 origin;	/* enum dmm_origin */
	dmm_u8 keep;	/* DMM_KEEP_*: what matches stays on the kernel stack */
	dmm_u8 congestion; /* enum dmm_congestion */
	dmm_u16 measure;   /* what telemetry calls the rule, DMM_MEASURE_AUTO beside; its name keeps
			      it as long as it is measured. 0: its sockets are not */
};
#define DMM_KEEP_OFF 1u		 /* the rule is switched off */
#define DMM_KEEP_CAPTURE 2u	 /* for tcpdump to see it */
#define DMM_MEASURE_AUTO 0x8000u /* nRD chooses among use, see struct dmm_choice */
#define DMM_MEASURE_NUMBER(measure) ((measure)&0x7fff)

/* The number between 0 and 2^32 - 1 that says where in the sum of weights a socket falls. */
#define DMM_DRAW(cookie) ((dmm_u32)((dmm_u64)(cookie)*0x9e3779b97f4a7c15ULL >> 32))

/* What an instance does that has nothing to do. */
enum dmm_poll {
	DMM_POLL_ADAPTIVE, /* looks for work for a moment, if that paid off before, then sleeps */
	DMM_POLL_BUSY,	   /* never sleeps */
	DMM_POLL_SLEEP,	   /* sleeps at once */
};
#define DMM_POLL_WORDS "adaptive", "busy", "sleep"

/*
 * dmm_choice, a hash: what nRD has chosen for connecting sockets of a rule, for one remote prefix
 * or, plen 0 and no address, for all that have no choice of their own. It is no part of a
 * generation: a choice counts as long as `use` is the list of the rule. None: the order of the
 * list.
 */
struct dmm_choice_key {
	dmm_u16 measure; /* DMM_MEASURE_NUMBER */
	dmm_u8 plen;	 /* 0, DMM_CHOICE_PLEN4 or DMM_CHOICE_PLEN6 */
	dmm_u8 pad;
	dmm_u8 ip[16];
};
#define DMM_CHOICE_PLEN4 120 /* of the v4-mapped form */
#define DMM_CHOICE_PLEN6 48
struct dmm_choice {
	dmm_u16 weight[DMM_MAX_USE]; /* as in dmm_rule_rec; not all 0 */
	dmm_u8 use[DMM_MAX_USE];
	dmm_u8 pad[6];
};

/*
 * dmm_stack[slot * DMM_MAX_STACKS + id]: a stack as configured. Ids belong to names: a commit gives
 * a name that stays the id that it had.
 */
struct dmm_stack_rec {
	char name[DMM_NAME_LEN];
	dmm_u8 kind;	    /* enum dmm_kind */
	dmm_u8 poll;	    /* userspace: enum dmm_poll */
	dmm_u8 reject;	    /* reject: enum dmm_reject */
	dmm_u8 ecn;	    /* userspace: 1: ask for it, RFC 3168 */
	dmm_u32 queue;	    /* userspace: receive queue of the interface, value + 1; 0: all */
	char engine[16];    /* userspace: "native" … */
	char driver[8];	    /* userspace: "xsk" … */
	char mode[8];	    /* userspace: "auto", "native", "generic" */
	char interface[16]; /* userspace: network interface */
	/* kernel: 0 or "" leaves the application's own value */
	char congestion[16];
	dmm_u64 pacing_bps;	 /* bits per second, SO_MAX_PACING_RATE */
	dmm_u32 mark;		 /* SO_MARK */
	dmm_u32 priority;	 /* SO_PRIORITY, value + 1 */
	dmm_u32 tos;		 /* IP_TOS and IPV6_TCLASS, value + 1 */
	dmm_u32 user_timeout_ms; /* TCP_USER_TIMEOUT */
	dmm_u32 keepalive_s;	 /* SO_KEEPALIVE, TCP_KEEPIDLE */
	dmm_u32 threads;	 /* userspace: 0: one */
};

/*
 * dmm_group[id]: a group as attached; name "" is a free id. [0] is the cgroup of the instances. It
 * is there before the group is in force, and before anything is made or attached for it, and after:
 * which groups are in force says dmm_class_hdr.groups, so that one store switches rules and groups.
 */
struct dmm_group_rec {
	char name[DMM_NAME_LEN];
	char cgroup[DMM_PATH_LEN]; /* below the cgroup2 mount */
	dmm_u64 cgroup_id;	   /* inode of the directory; 0: not all is attached */
	dmm_u8 made; /* directories of the path that DMM made or is about to, and that go with the
			group */
	dmm_u8 pad[7];
};

/* dmm_cgroup, cgroup storage: what the programs learn from the cgroup that they are attached to. */
struct dmm_cgroup_val {
	dmm_u32 group; /* group id; counts in the generations that have the group */
	dmm_u32 flags; /* DMM_CG_* */
};
#define DMM_CG_INSTANCE 1u /* the cgroup of the dmm-stackd instances */
#define DMM_CG_OFF 2u	   /* switched off by the operator: everything on the kernel stack */

/* enum dmm_state: of an instance, in dmm_stack_rt.state. */
enum dmm_state { DMM_STATE_DOWN, DMM_STATE_UP };

#define DMM_CARRIER_PORTS 8 /* a power of two */
#define DMM_CARRIER_TURN(cookie) (DMM_DRAW(cookie) >> 8 & (DMM_CARRIER_PORTS - 1))

/*
 * dmm_stackrt[id], mmapable: an instance as it runs, written by itself; dmm-policyd writes state =
 * DOWN for an instance that died. Not part of a generation.
 */
struct dmm_stack_rt {
	dmm_u32 state; /* enum dmm_state */
	dmm_u32 pid;
	dmm_u64 heartbeat_ns; /* at least every DMM_HEARTBEAT_NS while one of its threads runs */
	dmm_u64 netns;	      /* cookie of the network namespace that its listeners are in */
	dmm_u64 started_ns;
	dmm_u32 ifindex;
	dmm_u32 xdp_mode; /* enum dmm_xdp_mode */
	dmm_u32 off; /* 1: switched off by the operator, who writes this for stacks of all kinds */
	dmm_u32 udp; /* 1: its engine has UDP */
	dmm_u16 threads;
	dmm_u16 hung; /* threads whose own heartbeat is older than DMM_HEARTBEAT_DEAD_NS, as the
			 others see it */
	/* Carrier listeners on 127.0.0.1 and ::1, in host byte order; 0: none. From one address to
	 * one port there are as many connections as ip_local_port_range has ports, so there are
	 * several and sockets go to them in turn. Listener i is served by thread i % threads; of a
	 * thread that hangs another serves its own in their place. */
	dmm_u16 port4[DMM_CARRIER_PORTS], port6[DMM_CARRIER_PORTS];
};
#define DMM_HEARTBEAT_NS 1000000000ULL
#define DMM_HEARTBEAT_DEAD_NS 5000000000ULL /* older than this: the instance hangs, stack-down */

/* How an instance gets its packets: XDP on the interface, generic or by the driver, or tc. */
enum dmm_xdp_mode {
	DMM_XDP_NONE,
	DMM_XDP_GENERIC,
	DMM_XDP_NATIVE,
	DMM_XDP_ZEROCOPY,
	DMM_XDP_TC,
	DMM_XDP_MODES
};

/*
 * dmm_sock, socket storage: the verdict of a socket and the names that it is told. Made at
 * listen() and at a connect() through an instance (the other connects: dmm_plain), inherited by
 * accepted sockets, gone with the socket.
 */
struct dmm_sock {
	dmm_u64 generation;
	dmm_u64 cookie; /* of this socket (0 in an accepted one until established) */
	dmm_u64 since_ns;
	dmm_u32 rule;  /* index in `generation`, or DMM_RULE_NONE */
	dmm_u8 stack;  /* stack id, or DMM_STACK_NONE */
	dmm_u8 reason; /* enum dmm_reason */
	dmm_u8 role;   /* enum dmm_role */
	dmm_u8 group;
	dmm_u8 proto;
	dmm_u8 carrier; /* enum dmm_carrier */
	dmm_u8 flags;	/* DMM_SF_* */
	dmm_u8 wanted;	/* the first of its stacks; DMM_MAX_STACKS: none was named */
	dmm_u32 pid;	/* that called connect() or listen() */
	char comm[16];
	char rule_name[DMM_NAME_LEN]; /* as indices change meaning with the generation */
	struct dmm_addr remote;	      /* as the application knows it; of a listener: unknown */
	struct dmm_addr local;	      /* the same; port 0: not known yet */
	struct dmm_addr via; /* the carrier listener that remote was rewritten to; port 0: none */
	dmm_u8 congestion; /* enum dmm_congestion that the engine uses; NONE: not known by these */
	dmm_u8 pad[3];
	dmm_u64 kernel_sk; /* of a listener: its struct sock, for its accepted sockets; never told
			    */
};
#define DMM_SF_PENDING 1u   /* an entry in dmm_pending belongs to this socket */
#define DMM_SF_CARRIER 2u   /* this socket is an end of a carrier: remote and local are told */
#define DMM_SF_LISTEN 8u    /* an announced listener: an entry in dmm_listen belongs to it */
#define DMM_SF_INSTANCE 32u /* an instance's own: the listener for carriers, or its end of one */
#define DMM_SF_UDP 64u	    /* it had a UDP carrier: flows of dmm_udp may be its */

/*
 * dmm_monitor[n % DMM_MONITOR_SLOTS], mmapable: verdict number n, as the socket got it. Nobody
 * takes them out: a slot is written again after DMM_MONITOR_SLOTS verdicts, and each reader sees by
 * itself what it was too slow for. So any number may listen, and who is killed leaves nothing.
 */
struct dmm_monitor_slot {
	dmm_u64 seq; /* n + 1 once all of sock is there; 0: never, or being written */
	struct dmm_sock sock;
};
#define DMM_MONITOR_SLOTS 4096

/*
 * dmm_plain, an array: the verdict of a connecting socket that was left on the kernel stack. Socket
 * storage would cost it more than the whole decision, and all that a connect() writes is one cache
 * line. A socket has one of the DMM_PLAIN_WAYS slots next to its home, which the address of its
 * struct sock names: the kernel uses those that became free last first, so that few of the slots
 * are in use, and those are in the cache. A slot is free when its socket is gone (dmm_plain.bpf.h).
 * When all are taken the verdict is in socket storage. What is not here the socket knows itself.
 */
struct dmm_plain {
	dmm_u64 cookie; /* 0: never used; DMM_PLAIN_BUSY: being written */
	dmm_u64 sk;	/* its struct sock, never told; 0: forgotten */
	dmm_u64 generation;
	dmm_u64 since_ns;
	dmm_u32 rule;
	dmm_u8 stack, reason, group, proto; /* as in dmm_sock */
	dmm_u32 pid;
	dmm_u32 pad;
	char comm[16];
	/* Only a commit writes these, when the image goes that tells the rule's name: it is valid
	 * for the cookie and the generation beside it. */
	dmm_u64 named_cookie, named_generation;
	char rule_name[DMM_NAME_LEN];
	dmm_u64 pad2[2];
};
#define DMM_PLAIN_BUSY (~0ULL)
#define DMM_PLAIN_BITS 15
#define DMM_PLAIN_SLOTS (1 << DMM_PLAIN_BITS)
#define DMM_PLAIN_WAYS 8

/* Key of dmm_tuple: one direction of a carrier connection, as its connecting end sees it. */
struct dmm_tuple {
	dmm_u64 netns; /* cookie */
	struct dmm_addr src, dst;
};

/* A connection on its way to an instance, value of dmm_pending by the connecting socket's cookie.
 */
struct dmm_flow {
	struct dmm_addr remote; /* of the far side, as the engine shall connect to it */
	struct dmm_addr local;	/* as the application bound it, then as the engine chose it */
	dmm_u64 cookie;
	dmm_u64 since_ns;
	dmm_u8 stack;
	dmm_u8 group;
	dmm_u8 carrier;
	dmm_u8 role;  /* DMM_ROLE_CLIENT: towards an instance; SERVER: towards an application */
	dmm_u8 gated; /* 1: the connecting end may be spliced and is in dmm_splice */
	union {
		dmm_u8 congestion; /* TCP: enum dmm_congestion: as the rule says, then as the engine
				      does it */
		dmm_u8 thread;	   /* UDP: of the instance, whose carrier it is */
	};
	dmm_u16 measure;   /* as in dmm_rule_rec */
	dmm_u64 kernel_sk; /* of the connecting end; meaningful to the BPF programs alone */
};

/*
 * UDP. dmm_udp_free[stack id], mmapable: the instance's carriers that wait for a flow: their port,
 * and the thread that they belong to. Who takes one leaves 0, and the instance puts another there.
 */
#define DMM_UDP_FREE 256
#define DMM_UDP_CARRIER(port, thread) ((dmm_u32)(port) | (dmm_u32)(thread) << 16)
#define DMM_UDP_PORT(carrier) ((dmm_u16)(carrier))
#define DMM_UDP_THREAD(carrier) ((carrier) >> 16)
struct dmm_udp_free {
	dmm_u32 next; /* where to look first */
	dmm_u32 pad;
	dmm_u32 carrier[DMM_UDP_FREE];
};
/* Key of dmm_udp, whose values are flows of UDP: the port of the instance's end of their carrier.
 * In such a flow local.ip is the address of both ends, local.port the application's port, 0: not
 * known yet; gated 1: the socket is closed. */
struct dmm_udp_key {
	dmm_u64 netns; /* cookie */
	dmm_u32 port;
	dmm_u32 pad;
};

/* Value of dmm_pair by a spliced socket's cookie. */
struct dmm_pair {
	dmm_u64 peer;	 /* cookie of the other end */
	dmm_u64 peer_sk; /* its struct sock: read only, and only to decide; may be stale */
	dmm_u64 tx, rx;	 /* payload bytes that went by sk_msg, not in TCP's own counters */
};

/* Value of dmm_listen by the listener's cookie. */
struct dmm_listener {
	struct dmm_addr local; /* ip all zero or ::ffff:0.0.0.0: any */
	dmm_u8 tos, tclass;    /* of what answers over IPv4, over IPv6 */
	dmm_u8 pad[2];
	dmm_u64 cookie;
	dmm_u64 netns;
	dmm_u8 stack;
	dmm_u8 group;
	dmm_u8 carrier;
	dmm_u8 v6only; /* 1: an IPv6 listener that takes no IPv4 */
	dmm_u8 family; /* 4 or 6, of the socket */
	dmm_u8 nonblock;
	dmm_u8 off; /* not 0: the kernel answers, and why: enum dmm_reason ADMIN_OFF of its stack,
		       group or rule, or CAPTURE; the instance writes it */
	dmm_u8 congestion; /* enum dmm_congestion, as its rule says */
};

/* Key of dmm_route, a longest-prefix-match trie: what an instance can reach. */
struct dmm_route_key {
	dmm_u32 plen; /* 32 + bits of the v4-mapped form */
	dmm_u32 stack;
	dmm_u8 ip[16];
};
enum dmm_route_type {
	DMM_ROUTE_OTHER, /* another interface, local to the host, or unreachable */
	DMM_ROUTE_VIA,	 /* through the instance's interface */
	DMM_ROUTE_LOCAL, /* an address of the instance's interface */
};

/* Value of dmm_route. */
struct dmm_route {
	dmm_u32 type;	   /* enum dmm_route_type */
	dmm_u8 source[16]; /* VIA: the address that the kernel would send from; all 0: not known */
};

/* Events on the ring of an instance's thread, dmm_events[DMM_EVENTS_INDEX(stack id, thread)]. */
#define DMM_EVENTS_INDEX(stack, thread) ((dmm_u32)(stack)*DMM_MAX_THREADS + (thread))
enum dmm_event_type {
	DMM_EV_SYN = 1,
	DMM_EV_LISTEN,
	DMM_EV_UNLISTEN,
	DMM_EV_UDP_OPEN,  /* a UDP socket connects: flow; the port of its carrier is tuple.dst's */
	DMM_EV_UDP_CLOSE, /* it was closed (flow.gated), or calls connect(), which may fail */
	DMM_EV_AGAIN,	  /* a struct dmm_again */
	DMM_EV_TOS, /* a carrier's packet, hdr, has another type of service than the instance's
		       end of it, whose cookie is flow.cookie */
	DMM_EV_KEEPALIVE, /* an application's, hdr, dropped: whether the far side is there decides;
			     flow.cookie as of TOS */
	DMM_EV_LEFT,	  /* flow, whose carrier is tuple: its socket left before connect() ended */
};
/* Of a type of service, what is an application's over TCP: the others are those of ECN (RFC 3168).
 */
#define DMM_TOS_MASK 0xfc
#define DMM_SYN_HDR 160 /* bytes of IP and TCP header that are copied, at most */
struct dmm_event {
	dmm_u32 type;
	dmm_u32 isn;		      /* SYN: initial sequence number */
	dmm_u32 known;		      /* SYN: flow is valid; 0: not from a managed socket */
	dmm_u16 hdr_len, l4_off;      /* all with hdr: bytes of it, where the TCP header starts */
	struct dmm_tuple tuple;	      /* SYN, AGAIN, UDP, TOS, KEEPALIVE, LEFT */
	struct dmm_flow flow;	      /* SYN, UDP, LEFT */
	struct dmm_listener listener; /* LISTEN, UNLISTEN */
	dmm_u8 hdr[DMM_SYN_HDR]; /* SYN, AGAIN, TOS, KEEPALIVE: from the IP header, no payload */
};

/* An application's first data, dropped as it met the end of the handshake: to be sent again. What
 * is longer waits for the application's kernel to do that. */
#define DMM_AGAIN_MAX 2047
struct dmm_again {
	struct dmm_event ev; /* AGAIN: tuple, hdr */
	dmm_u32 len;	     /* 0: it only ends, or resets */
	dmm_u8 data[DMM_AGAIN_MAX + 1];
};

/* Constants of the steering programs. */
struct dmm_steer {
	dmm_u32 stack;
	dmm_u32 threads; /* a power of two; queue q belongs to thread q % threads */
	dmm_u32 queues;	 /* 1: XDP looks at packets before tc does */
};

/* tc: a record of dmm_frames[thread], a ring buffer. The longest frame is an IP packet of 64 KiB.
 */
#define DMM_FRAMES_SIZE (8u << 20)
#define DMM_FRAME_MAX (65535 + 14)
struct dmm_frame {
	dmm_u32 len;
	dmm_u32 segment; /* not 0: it is several packets in one, with so much payload each */
	dmm_u8 data[];	 /* from the Ethernet header on */
};

/* tc: the thread sleeps, and is to be woken up. A cache line each. */
struct dmm_asleep {
	dmm_u32 yes;
	dmm_u32 pad[15];
};

/* Key of dmm_xflow (XDP): an exact flow that the instance owns. Ports in network byte order. */
struct dmm_xflow_key {
	dmm_u8 remote[16], local[16];
	dmm_u16 remote_port, local_port; /* network byte order, as in the packet */
	dmm_u8 proto;
	dmm_u8 pad[3];
};
/* Value of dmm_xflow, DMM_XFLOW(how, thread): how is an enum dmm_xflow. */
enum dmm_xflow {
	DMM_XFLOW_NONE,	  /* not in the map */
	DMM_XFLOW_LIVE,	  /* every packet is the instance's */
	DMM_XFLOW_CLOSED, /* the engine lingers (TIME-WAIT) on a port that is left to the kernel: a
			     new connection of the same addresses is the kernel's */
};
#define DMM_XFLOW(how, thread) ((dmm_u8)((how) | (thread) << 2))
#define DMM_XFLOW_HOW(value) ((value)&3)
#define DMM_XFLOW_THREAD(value) ((value) >> 2)

/*
 * Value of dmm_xport: what each thread says of a listening port, a bit for each. It is the
 * instance's when all of them listen: any of them may get its connections.
 */
struct dmm_xport_value {
	dmm_u8 owned, left;
};

/* What of a listening port is the instance's. */
enum dmm_xport {
	DMM_XPORT_NONE,	 /* not in the map */
	DMM_XPORT_LEFT,	 /* SYNs are the kernel's, and so is what it has a connection or a valid SYN
			    cookie of: the rest is of handshakes that the instance has begun, or
			    late */
	DMM_XPORT_OWNED, /* the same, but SYNs of addresses that the kernel has no connection of are
			    the instance's */
};

/* dmm_xbits: the word that has the bit of a local port, DMM_XBITS_HALF words a protocol. */
#define DMM_XBITS_HALF (65536 / 64)
#define DMM_XBITS_WORDS (2 * DMM_XBITS_HALF)
#define DMM_XBITS_INDEX(proto, port) ((port) / 64 + ((proto) == 17 ? DMM_XBITS_HALF : 0))

/* Key of dmm_xport (XDP): a listening port of one address. */
struct dmm_xport_key {
	dmm_u8 local[16];
	dmm_u16 port; /* network byte order */
	dmm_u8 proto;
	dmm_u8 pad;
};

/* dmm_verdicts[stack * …]: how many sockets got what. */
#define DMM_VERDICT_INDEX(stack, role, reason) \
	(((dmm_u32)(stack)*DMM_ROLES + (role)) * DMM_REASON_SPACE + (reason))
#define DMM_REASON_SPACE 16 /* room for enum dmm_reason */

/* dmm_fallbacks[wanted, stack, reason]: how many sockets got this stack in place of the first that
 * was named for them; wanted DMM_MAX_STACKS: none was. */
#define DMM_FALLBACK_INDEX(wanted, stack, reason) \
	(((dmm_u32)(wanted)*DMM_MAX_STACKS + (stack)) * DMM_REASON_SPACE + (reason))

/* dmm_steered[rule, stack]: how many connecting TCP sockets of a measured rule got this stack.
 * rule: DMM_MEASURE_NUMBER. */
#define DMM_STEERED_INDEX(number, stack) ((dmm_u32)(number)*DMM_MAX_STACKS + (stack))

#define DMM_ASSERT(name, cond) typedef char dmm_assert_##name[(cond) ? 1 : -1]
DMM_ASSERT(addr, sizeof(struct dmm_addr) == 20);
DMM_ASSERT(meta, sizeof(struct dmm_meta) == 56);
DMM_ASSERT(stack_rt, sizeof(struct dmm_stack_rt) == 88);
DMM_ASSERT(memo, sizeof(struct dmm_memo) == 64);
DMM_ASSERT(cell, sizeof(struct dmm_cell) == 64);
DMM_ASSERT(table, sizeof(struct dmm_table) == 64);
DMM_ASSERT(class_hdr, sizeof(struct dmm_class_hdr) == 64 * DMM_HDR_CELLS);
DMM_ASSERT(rule_rec, sizeof(struct dmm_rule_rec) == 64);
DMM_ASSERT(choice_key, sizeof(struct dmm_choice_key) == 20);
DMM_ASSERT(choice, sizeof(struct dmm_choice) == 24);
DMM_ASSERT(tuple, sizeof(struct dmm_tuple) == 48);
DMM_ASSERT(flow, sizeof(struct dmm_flow) == 72);
DMM_ASSERT(udp_free, sizeof(struct dmm_udp_free) == 8 + 4 * DMM_UDP_FREE);
DMM_ASSERT(udp_key, sizeof(struct dmm_udp_key) == 16);
DMM_ASSERT(route_value, sizeof(struct dmm_route) == 20);
DMM_ASSERT(sock, sizeof(struct dmm_sock) == 160);
DMM_ASSERT(monitor_slot, sizeof(struct dmm_monitor_slot) == 168);
DMM_ASSERT(plain, sizeof(struct dmm_plain) == 128);
DMM_ASSERT(listener, sizeof(struct dmm_listener) == 48);
DMM_ASSERT(route, sizeof(struct dmm_route_key) == 24);
DMM_ASSERT(xflow, sizeof(struct dmm_xflow_key) == 40);
DMM_ASSERT(xport, sizeof(struct dmm_xport_key) == 20);
DMM_ASSERT(xport_value, sizeof(struct dmm_xport_value) == 2);
DMM_ASSERT(threads, DMM_CARRIER_PORTS % DMM_MAX_THREADS == 0 && DMM_MAX_THREADS <= 8);

#endif
