/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Headers as on the wire, and the few kernel fields that the program reads. Our own: those of vmlinux.h carry relocations that
 * made clang 14 move loads past stores. */
#ifndef MCR_HEADERS_H
#define MCR_HEADERS_H

#include <linux/types.h>
#include <bpf/bpf_endian.h>

#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_IPV6 0x86dd
#define TPID_8021Q 0x8100
#define TPID_8021AD 0x88a8
#define PROTOCOL_UDP 17
#define VLAN_NUMBER 0x0fff
#define VLAN_PRIORITY 0xf000
#define DONT_FRAGMENT 0x4000
#define FRAGMENT_MASK 0x3fff
#define OFFSET_MASK 0x1fff
#define MORE_FRAGMENTS 0x2000
/* Beside them, where IPv4 has a bit that says nothing: it is IPv6, and has a fragment header. */
#define FRAGMENT_HEADER 0x8000
#define PACKET_OTHERHOST 3

#define ETHERNET_BYTES 14
#define MAC_BYTES 12 /* both */
#define TAG_BYTES 4
#define IPV4_BYTES 20
#define IPV6_BYTES 40
#define EXTENSION_BYTES 8
#define UDP_BYTES 8
#define MOST_IPV4_BYTES 60

struct ipv4 {
	__u8 version_and_words;
	__u8 traffic_class;
	__be16 total_bytes;
	__be16 identification;
	__be16 fragmentation;
	__u8 ttl;
	__u8 protocol;
	__be16 checksum;
	__be32 source;
	__be32 destination;
};

struct ipv6 {
	__be32 first; /* version, traffic class, flow label */
	__be16 payload_bytes;
	__u8 next;
	__u8 hop_limit;
	__be32 source[4];
	__be32 destination[4];
};
#define IPV6_VERSION 0x60000000
#define IPV6_VERSION_MASK 0xf0000000
#define IPV6_LABEL_MASK 0x000fffff

/* What an IPv6 header may lead to besides UDP and still be looked into (RFC 8200 section 4). */
enum extension {
	EXTENSION_HOP_BY_HOP = 0,
	EXTENSION_ROUTING = 43,
	EXTENSION_FRAGMENT = 44,
	EXTENSION_DESTINATION = 60,
};

struct fragment_header {
	__u8 next;
	__u8 reserved;
	__be16 place; /* the offset in the upper 13 bits */
	__be32 identification;
};
#define FRAGMENT_HEADER_MORE 0x0001
_Static_assert(sizeof(struct fragment_header) == EXTENSION_BYTES, "RFC 8200 section 4.5");

struct udp {
	__be16 source;
	__be16 destination;
	__be16 length;
	__be16 checksum;
};

/* Ethernet, IP and UDP in one piece, so that one helper call reads or writes them; the pad aligns the addresses. */
struct headers {
	__u16 pad;
	__u8 destination_mac[6];
	__u8 source_mac[6];
	__be16 ethertype;
	union {
		struct {
			struct ipv4 ip;
			struct udp udp;
		};
		struct {
			struct ipv6 ip6;
			union {
				struct udp udp6;
				struct fragment_header fragment;
			};
		};
	};
};
#define HEADERS_BYTES (ETHERNET_BYTES + IPV4_BYTES + UDP_BYTES)
#define HEADERS6_BYTES (ETHERNET_BYTES + IPV6_BYTES + UDP_BYTES)
_Static_assert(sizeof(struct headers) == 2 + HEADERS6_BYTES, "no holes");
_Static_assert(__builtin_offsetof(struct headers, udp) == 2 + HEADERS_BYTES - UDP_BYTES, "no holes");

static __always_inline int is_extension(__u8 kind)
{
	return kind == EXTENSION_HOP_BY_HOP || kind == EXTENSION_ROUTING || kind == EXTENSION_FRAGMENT ||
	       kind == EXTENSION_DESTINATION;
}

static __always_inline int is_tag(__be16 ethertype)
{
	return ethertype == bpf_htons(TPID_8021Q) || ethertype == bpf_htons(TPID_8021AD);
}

/* Values of ip_summed (include/linux/skbuff.h). */
enum checksum_state {
	CHECKSUM_NONE = 0,
	CHECKSUM_UNNECESSARY = 1,
	CHECKSUM_COMPLETE = 2,
	CHECKSUM_PARTIAL = 3,
};

/* Bits of gso_type (include/linux/skbuff.h). */
#define SKB_GSO_DODGY (1 << 1)
#define SKB_GSO_UDP_L4 (1 << 17)

/* What of the kernel's own structures no helper tells; found by name (CO-RE). */
struct sk_buff {
	unsigned char *head;
	__u32 end;
	__u8 ip_summed : 2;
} __attribute__((preserve_access_index));

struct skb_shared_info {
	__u32 gso_type;
} __attribute__((preserve_access_index));

#endif
