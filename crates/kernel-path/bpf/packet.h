/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * A packet at tcx ingress: what was read of it, and what became of it. Its frame is handed around beside it, because a function
 * that is verified by itself (see tcx.h) can be given the context, but no pointer in a structure.
 */
#ifndef MCR_PACKET_H
#define MCR_PACKET_H

#include "headers.h"
#include "relay.h"

/* A frame that passed; else a drop reason. */
#define GOOD (-1)

/* A frame at hand. */
struct packet {
	struct headers headers; /* as they arrived, but for the UDP header */
	struct udp udp;
	struct mcr_destination destination;
	__u32 ip_at;         /* bytes before the IP header */
	__u32 there;         /* bytes from the IP header to the end of the frame */
	__u32 header_bytes;  /* of the IP header, with what is between it and UDP */
	__u32 total_bytes;   /* of the IP packet */
	__u32 segment_bytes; /* payload of each segment of a super-frame; 0: none */
	__u32 packets;       /* datagrams */
	__u32 payload;       /* bytes of payload of all of them */
	__u32 largest;       /* bytes of the largest payload */
	__u32 payload_sum;   /* of a datagram that has to get a checksum */
	__s32 obstacle;      /* GOOD, or why an extension header keeps it from being relayed */
	__u8 is_ipv6;        /* as it arrived */
	__u8 is_ipv6_now;
	__u8 is_summed;      /* whether there is a payload_sum */
	__u8 is_portless;    /* whether an extension header hides the ports */
	__be16 fragmentation; /* "more fragments" and the offset, as in an IPv4 header; or FRAGMENT_HEADER */
	__be32 identification; /* of a fragment; of IPv4 it has half the bits */
	__u8 has_fragment_header_now;
	__u8 ttl;
	__u16 priority;      /* upper four bits of the tag */
	__u16 tags;          /* how many there were */
	__u32 checksum;      /* enum checksum_state */
	__s32 reason;        /* GOOD, or why it is dropped */
	__u32 accepted;      /* whether a relay wants it */
	__u32 stripped;      /* whether tag and padding are off */
	__u32 is_cut;        /* whether the frame has a piece of it only; all of it is in `cuttings` */
};

/* The address of the packet's family. */
static __always_inline void set_address(const struct packet *packet, struct mcr_address *address, __be32 ipv4,
					const __be32 *ipv6)
{
	address->word[0] = packet->is_ipv6 ? ipv6[0] : ipv4;
	address->word[1] = packet->is_ipv6 ? ipv6[1] : 0;
	address->word[2] = packet->is_ipv6 ? ipv6[2] : 0;
	address->word[3] = packet->is_ipv6 ? ipv6[3] : 0;
}

/* Whether it says that it is a fragment: one of IPv6 may be a whole datagram all the same (RFC 6946). */
static __always_inline int is_piece(const struct packet *packet)
{
	return packet->fragmentation != 0;
}

static __always_inline int is_fragment(const struct packet *packet)
{
	return (packet->fragmentation & bpf_htons(FRAGMENT_MASK)) != 0;
}

static __always_inline int is_later_fragment(const struct packet *packet)
{
	return (packet->fragmentation & bpf_htons(OFFSET_MASK)) != 0;
}

/* Bytes of the UDP header, which a later fragment has not. */
static __always_inline __u32 udp_bytes_of(const struct packet *packet)
{
	return is_later_fragment(packet) ? 0 : UDP_BYTES;
}

/* Bytes of its IP packets, as they arrived. */
static __always_inline __u32 ip_bytes(const struct packet *packet)
{
	return packet->packets * (packet->total_bytes - packet->payload) + packet->payload;
}

/* Bytes of the IP and UDP headers of an output's copies. */
static __always_inline __u32 header_bytes_of(const struct packet *packet, const struct mcr_output *output)
{
	if (output->flags & MCR_OUTPUT_IPV6)
		return IPV6_BYTES + udp_bytes_of(packet) + (is_piece(packet) ? EXTENSION_BYTES : 0);
	return IPV4_BYTES + udp_bytes_of(packet);
}

/* Bytes of an output's copies. */
static __always_inline __u32 bytes_of_copies(const struct packet *packet, const struct mcr_output *output)
{
	return packet->packets * header_bytes_of(packet, output) + packet->payload;
}

/* Notes where the packet was sent, for the look-up. */
static __always_inline void note_destination(struct packet *packet)
{
	set_address(packet, &packet->destination.address, packet->headers.ip.destination,
		    packet->headers.ip6.destination);
	packet->destination.port = packet->udp.destination;
	if (packet->is_ipv6)
		packet->destination.vlan |= MCR_KEY_IPV6;
}

#endif
