/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * What the program and the table writer share. The twins in Rust are in src/layout.rs; both sides assert every size and
 * offset, and the drop reasons come from mcr-wire (build.rs).
 *
 * Fields are in host order unless their type says otherwise. Record 0 of an array is never used: 0 ends a list.
 *
 * A record is immutable while a packet can reach it, but for what is noted in it of packets. A change writes new records, then the one word in `destinations` that
 * leads to them; old ones are used again only after an RCU grace period. So a packet in flight sees the old relay or the
 * new one, whole.
 */
#ifndef MCR_RELAY_H
#define MCR_RELAY_H

#include <linux/types.h>

/* Most outputs of one relay. */
#define MCR_MOST_OUTPUTS 64
/* In the number of a list whose sources are refused. */
#define MCR_LIST_REFUSES 0x80000000
/* Prefixes of so many lengths at most are in a list, whole addresses aside. */
#define MCR_MOST_LENGTHS 4
/* Most relays that share a destination. */
#define MCR_MOST_SHARING 1024

/* An address of either family; of IPv4 in the first word, with zeros behind. Which family it is says something beside it. */
struct mcr_address {
	__be32 word[4];
};

/* The key of a look-up. */
struct mcr_destination {
	__u32 ifindex;
	struct mcr_address address;
	__be16 port;
	__u16 vlan; /* of the inner tag, if there are two; 0: untagged, or tagged with a priority only; and MCR_KEY_IPV6 */
	__u16 outer_vlan; /* 0: there is one tag at most */
	__u16 unused;
};
/* Set in the upper bits, which no VLAN has. */
#define MCR_KEY_IPV6 0x8000

/* A cap on a rate: what is admitted costs time (mcr-wire, rate.rs). Zeros: no cap. */
struct mcr_cap {
	__u64 packet_cost; /* 1/64 ns */
	__u64 byte_cost;   /* 2^-20 ns */
};

/* The times until which all that was admitted is paid, in 1/64 ns of CLOCK_MONOTONIC. */
struct mcr_bucket {
	__u64 packets;
	__u64 bytes;
};

/* One relay: what is counted for it, and where its copies go. */
struct mcr_relay {
	/* Checked by the reader: an element of a hash map may be given away while it is being read. */
	struct mcr_destination destination;
	__u32 next;         /* record of the next relay of this destination */
	__u32 first_output; /* record */
	__u32 source_list;  /* number of the list in `sources`; 0: any source; with MCR_LIST_REFUSES: any but these */
	__u32 slot;         /* of its counters */
	__u32 exit;         /* enum mcr_exit, and its number */
	__u32 mtu;          /* bytes of the largest IP packet that may come, so that the drivers of all outputs take it */
	__u32 least_ttl;    /* that all outputs send a copy of */
	__u32 flags;        /* enum mcr_relay_flags */
	__u8 free_bits[MCR_MOST_LENGTHS]; /* of the prefixes in its list, each once, as in struct mcr_source; 0: no more */
	__u64 identity; /* the writer's own; for whoever adopts the maps */
	struct mcr_cap cap;
	__u64 arrived; /* with MCR_NOTES_ARRIVALS when packets came last, in nanoseconds of CLOCK_MONOTONIC, to MCR_NOTES_EVERY */
};

/* What the programs have to know of a relay besides. */
enum mcr_relay_flags {
	MCR_NEEDS_CHECKSUM = 1, /* IPv4 comes and IPv6 leaves, which has no datagram without a checksum */
	MCR_NOTES_ARRIVALS = 2, /* somebody wants to know whether packets come here */
};
/* So seldom is a record written to that others read. */
#define MCR_NOTES_EVERY 500000000ull

/* Where the program at the driver sends the frames of a relay, in the upper eight bits; a number is in the lower ones. */
enum mcr_exit {
	MCR_EXIT_TCX = 0,     /* nowhere: it passes them on, and the program at tcx ingress serves the relay */
	MCR_EXIT_PORT = 1,    /* to a port: there is one output */
	MCR_EXIT_FAN_OUT = 2, /* to all ports of a fan-out, which are those of the outputs, in their order */
	MCR_EXIT_FAN_OUT_REPEATED = 3, /* the same, with several outputs to one interface */
};
#define MCR_EXIT_NUMBER 0x00ffffff

/* What of struct mcr_output is set. */
enum mcr_output_flags {
	MCR_SET_SOURCE_PORT = 1,
	MCR_SET_DSCP = 2,
	MCR_MAP_DSCP = 4,
	MCR_KEEP_SOURCE = 8,
	MCR_OUTPUT_IPV6 = 16, /* copies leave as IPv6 */
	MCR_SET_PRIORITY = 32,
	MCR_CUTS = 64, /* larger copies than `mtu` leave in fragments */
};

/* Most code points that an output maps by themselves. */
#define MCR_MAPPED_CODE_POINTS 8

/* One output: what its copies look like. */
struct mcr_output {
	__u32 next; /* record of the next output of this relay */
	__u32 slot; /* of its counters */
	__u32 port; /* its interface, by its number in `ports` */
	__u32 mtu; /* bytes of the largest IP packet */
	__u8 destination_mac[6];
	__u8 source_mac[6];
	struct mcr_address source;
	struct mcr_address destination;
	__be16 destination_port;
	__be16 source_port;
	__u16 vlan; /* with the priority in its upper bits, if that is set; 0: none is pushed */
	__u8 ttl;       /* added to what ttl_mask leaves of the one that arrived, modulo 256 */
	__u8 dscp;
	__u8 flags;     /* enum mcr_output_flags */
	__u8 drop;      /* 0: send; else one more than the reason for which it can not */
	__u8 ttl_mask;
	__u8 least_ttl; /* that a copy is sent of */
	__u8 dscp_from[MCR_MAPPED_CODE_POINTS]; /* 0xff: none */
	__u8 dscp_to[MCR_MAPPED_CODE_POINTS];
	__u64 identity;
	struct mcr_cap cap;
	__u16 outer_vlan; /* as `vlan`, of the tag around it; 0: none is pushed */
	__u16 unused[3];
};

/*
 * The key of a listed source, or of the first one of a prefix. The value is one more than the number of bits at the end of
 * the address, as struct mcr_address has it, that may be either: 1 for a single source. No prefix of a list is within another.
 */
struct mcr_source {
	__u32 list; /* of addresses of one family */
	struct mcr_address address;
};

/* The key of a link-layer address of our own. */
struct mcr_own_mac {
	__u32 ifindex; /* of the input */
	__u8 mac[6];
	__u16 unused;
};

/* What a program looks at first. */
struct mcr_state {
	/* A bit for the lower six bits of each address in `own_macs`: most frames are told by it not to be ours. */
	__u64 own_mac_bits;
	/* Another one after each change of `destinations`: what was found before it is not to be relied on. */
	__u64 generation;
};

/* The key of an address whose unreadable frames are counted on the input. */
struct mcr_watched {
	__u32 ifindex;
	struct mcr_address address;
	__u32 family; /* 0 or MCR_KEY_IPV6 */
};

/* What arrived for a relay, one for each CPU. */
struct mcr_received {
	__u64 packets;
	__u64 bytes;
	__u64 last_seen; /* nanoseconds of CLOCK_MONOTONIC, to the tick */
	__u64 crossings; /* frames that the program at the driver handed to the outputs */
};

/* What left for an output, one for each CPU. */
struct mcr_sent {
	__u64 packets;
	__u64 bytes;
	__u64 crossing; /* the last that came to this output, by the relay's count */
};

/* What did not, by reason. Shared by all CPUs and added to atomically: drops are rare, and 168 bytes for each CPU and output are not. */
struct mcr_dropped {
	__u64 packets[MCR_DROP_REASONS];
};

#define MCR_SAME_LAYOUT(type, bytes) _Static_assert(sizeof(struct type) == (bytes), #type)
#define MCR_SAME_OFFSET(type, field, at) _Static_assert(__builtin_offsetof(struct type, field) == (at), #type "." #field)
MCR_SAME_LAYOUT(mcr_destination, 28);
MCR_SAME_OFFSET(mcr_destination, vlan, 22);
MCR_SAME_OFFSET(mcr_destination, outer_vlan, 24);
MCR_SAME_LAYOUT(mcr_bucket, 16);
MCR_SAME_LAYOUT(mcr_relay, 96);
MCR_SAME_OFFSET(mcr_relay, slot, 40);
MCR_SAME_OFFSET(mcr_relay, flags, 56);
MCR_SAME_OFFSET(mcr_relay, free_bits, 60);
MCR_SAME_OFFSET(mcr_relay, identity, 64);
MCR_SAME_OFFSET(mcr_relay, cap, 72);
MCR_SAME_OFFSET(mcr_relay, arrived, 88);
MCR_SAME_LAYOUT(mcr_output, 120);
MCR_SAME_OFFSET(mcr_output, destination_mac, 16);
MCR_SAME_OFFSET(mcr_output, source, 28);
MCR_SAME_OFFSET(mcr_output, vlan, 64);
MCR_SAME_OFFSET(mcr_output, drop, 69);
MCR_SAME_OFFSET(mcr_output, dscp_to, 80);
MCR_SAME_OFFSET(mcr_output, identity, 88);
MCR_SAME_OFFSET(mcr_output, cap, 96);
MCR_SAME_OFFSET(mcr_output, outer_vlan, 112);
MCR_SAME_LAYOUT(mcr_source, 20);
MCR_SAME_LAYOUT(mcr_own_mac, 12);
MCR_SAME_LAYOUT(mcr_state, 16);
MCR_SAME_LAYOUT(mcr_watched, 24);
MCR_SAME_OFFSET(mcr_watched, family, 20);
MCR_SAME_LAYOUT(mcr_received, 32);
MCR_SAME_LAYOUT(mcr_sent, 24);
MCR_SAME_LAYOUT(mcr_dropped, 8 * MCR_DROP_REASONS);

#endif
