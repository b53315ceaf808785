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
static __always_inline __be16 updated_checksum(const struct headers *old, const struct headers *new)
{
	__u64 before = sum_of_addresses(old->ip.source, old->ip.destination) + old->udp.source + old->udp.destination;
	__u64 after = sum_of_addresses(new->ip.source, new->ip.destination) + new->udp.source + new->udp.destination;
	__u64 sum = (__u16)~old->udp.checksum;
	__u16 checksum;

	sum += (__u16)~fold(before);
	sum += fold(after);
	checksum = ~fold(sum);
	/* Zero means "none" (RFC 768). */
	return checksum ? checksum : 0xffff;
}

/* The headers of an output's copy: the twin of Rewrite::emit in mcr-wire. */
static __always_inline void rewrite(struct headers *headers, const struct headers *old, enum checksum_state checksum,
				    const struct mcr_output *output)
{
	__be16 udp_bytes = bpf_htons(bpf_ntohs(old->ip.total_bytes) - IPV4_BYTES);

	*headers = *old;
	__builtin_memcpy(headers->destination_mac, output->destination_mac, 6);
	__builtin_memcpy(headers->source_mac, output->source_mac, 6);
	if (output->flags & MCR_SET_DSCP)
		headers->ip.traffic_class = output->dscp << 2 | (old->ip.traffic_class & 3);
	headers->ip.fragmentation &= bpf_htons(DONT_FRAGMENT);
	headers->ip.ttl = output->ttl;
	headers->ip.source = output->source;
	headers->ip.destination = output->destination;
	headers->ip.checksum = 0;
	headers->ip.checksum = ~fold(sum_of_ip(&headers->ip));
	if (output->flags & MCR_SET_SOURCE_PORT)
		headers->udp.source = output->source_port;
	headers->udp.destination = output->destination_port;
	headers->udp.length = udp_bytes;
	if (checksum == CHECKSUM_PARTIAL)
		headers->udp.checksum = fold(sum_of_pseudo_header(output->source, output->destination, udp_bytes));
	else if (old->udp.checksum != 0)
		headers->udp.checksum = updated_checksum(old, headers);
}

#endif
