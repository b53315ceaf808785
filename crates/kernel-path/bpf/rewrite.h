/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Checksums, and the headers of a copy. */
#ifndef MCR_REWRITE_H
#define MCR_REWRITE_H

#include <bpf/bpf_endian.h>

#include "headers.h"
#include "relay.h"

/* Bytes that older kernels sum in one call (MAX_BPF_STACK, net/core/filter.c: bpf_csum_diff). */
#define CHUNK_BYTES 512

static __always_inline __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static __always_inline __u64 sum_of_addresses(__be32 source, __be32 destination)
{
	return (__u64)source + destination;
}

static __always_inline __u64 sum_of_pseudo_header(__be32 source, __be32 destination, __be16 udp_bytes)
{
	return sum_of_addresses(source, destination) + bpf_htons(PROTOCOL_UDP) + udp_bytes;
}

/* Of a header without options; its addresses are aligned. */
static __always_inline __u64 sum_of_ip(const struct ipv4 *ip)
{
	const __u32 *word = (const __u32 *)ip;

	return (__u64)word[0] + word[1] + word[2] + word[3] + word[4];
}

/* RFC 1624 equation 3, as in mcr-wire: never recomputed, so that damage done on this host is not covered up. */
static __always_inline __be16 updated_checksum(__be16 checksum, __u64 before, __u64 after)
{
	__u64 sum = (__u16)~checksum;

	sum += (__u16)~fold(before);
	sum += fold(after);
	checksum = ~fold(sum);
	/* Zero means "none" (RFC 768). */
	return checksum ? checksum : 0xffff;
}

/* What the checksum of a datagram covers and an output changes. */
static __always_inline __u64 sum_of_ends(const struct ipv4 *ip, const struct udp *udp)
{
	return sum_of_addresses(ip->source, ip->destination) + udp->source + udp->destination;
}

/* The tag that an output pushes on what arrived with this priority: its `vlan`, or the one around it. */
static __always_inline __u16 tag_of(const struct mcr_output *output, __u16 vlan, __u16 priority)
{
	return output->flags & MCR_SET_PRIORITY ? vlan : priority | vlan;
}

/* The code point of an output's copy of what arrived with this one. */
static __always_inline __u32 dscp_of(const struct mcr_output *output, __u32 arrived)
{
	__u32 dscp = output->flags & MCR_SET_DSCP ? output->dscp : arrived;

	if (!(output->flags & MCR_MAP_DSCP))
		return dscp;
	/* The first that fits counts. */
	for (int place = MCR_MAPPED_CODE_POINTS - 1; place >= 0; place--)
		if (output->dscp_from[place] == arrived)
			dscp = output->dscp_to[place];
	return dscp;
}

/*
 * In words, as a little-endian machine reads them: a word that is read after its bytes were written waits for the store.
 * Bytes 0 and 1 are version and traffic class, 6 and 7 flags and offset, 8 to 11 TTL, protocol and checksum.
 */
static __always_inline void rewrite_ip(struct ipv4 *ip, const struct mcr_output *output)
{
	__u32 *word = (__u32 *)ip;
	__u32 first = word[0], second = word[1], third = word[2];
	__be32 source = output->flags & MCR_KEEP_SOURCE ? ip->source : output->source.word[0];

	if (output->flags & (MCR_SET_DSCP | MCR_MAP_DSCP))
		first = (first & ~0xfc00) | (dscp_of(output, first >> 10 & 0x3f) & 0x3f) << 10;
	second &= 0xffff | (__u32)bpf_htons(DONT_FRAGMENT | FRAGMENT_MASK) << 16;
	third = (((third & output->ttl_mask) + output->ttl) & 0xff) | (third & 0xff00);
	third |= (__u32)(__u16)~fold((__u64)first + second + third + source + output->destination.word[0]) << 16;
	word[0] = first;
	word[1] = second;
	word[2] = third;
	ip->source = source;
	ip->destination = output->destination.word[0];
}

/*
 * Makes the headers, in place, those of an output's copy, but for the Ethernet header: the twin of Rewrite::emit in mcr-wire.
 * `udp_bytes` is the length for the UDP header.
 */
static __always_inline void rewrite(struct ipv4 *ip, struct udp *udp, __be16 udp_bytes, enum checksum_state checksum,
				    const struct mcr_output *output)
{
	__u64 before = sum_of_ends(ip, udp);

	rewrite_ip(ip, output);
	if (output->flags & MCR_SET_SOURCE_PORT)
		udp->source = output->source_port;
	udp->destination = output->destination_port;
	udp->length = udp_bytes;
	if (checksum == CHECKSUM_PARTIAL)
		udp->checksum = fold(sum_of_pseudo_header(ip->source, ip->destination, udp_bytes));
	else if (udp->checksum != 0)
		udp->checksum = updated_checksum(udp->checksum, before, sum_of_ends(ip, udp));
}

#endif
