/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* What is wrong with a packet at tcx ingress that a relay listens to: verdicts 6 to 12 of the table in mcr-wire (frame.rs). */
#ifndef MCR_JUDGE_H
#define MCR_JUDGE_H

#include <bpf/bpf_core_read.h>

#include "families.h"
#include "lookup.h"
#include "packet.h"
#include "sums.h"

/* How many datagrams, of how many bytes: a super-frame counts as its segments. */
static __always_inline void measure(struct packet *packet)
{
	__u32 headers = packet->header_bytes + udp_bytes_of(packet);
	__u32 payload = packet->total_bytes > headers ? packet->total_bytes - headers : 0;
	__u32 segment = packet->segment_bytes;

	packet->packets = 1;
	packet->payload = payload;
	packet->largest = payload;
	if (segment != 0 && segment < payload) {
		packet->packets = (payload + segment - 1) / segment;
		packet->largest = segment;
	}
}

static __always_inline int udp_checksum_is_right(struct __sk_buff *skb, const struct packet *packet, __u32 udp_bytes)
{
	const struct headers *headers = &packet->headers;
	__u64 sum = packet->is_ipv6 ?
			    sum_of_pseudo_header6(&headers->ip6, packet->udp.length) :
			    sum_of_pseudo_header(headers->ip.source, headers->ip.destination, packet->udp.length);

	return fold(sum_of_payload(skb, packet->ip_at + packet->header_bytes, udp_bytes, fold(sum))) == 0xffff;
}

static __always_inline __u32 checksum_state(struct __sk_buff *skb)
{
	return BPF_CORE_READ_BITFIELD_PROBED((struct sk_buff *)skb, ip_summed);
}

/* Whether an aggregate is one of UDP datagrams that the kernel can take apart again. */
static __noinline int is_udp_super_frame(struct __sk_buff *skb)
{
	struct sk_buff *kernels = (struct sk_buff *)skb;
	unsigned char *head = BPF_CORE_READ(kernels, head);
	struct skb_shared_info *shared = (void *)(head + BPF_CORE_READ(kernels, end));

	return (BPF_CORE_READ(shared, gso_type) & ~SKB_GSO_DODGY) == SKB_GSO_UDP_L4;
}

/* Verdicts 6 to 9 of the table; the IP header without options has been read whole. */
static __always_inline __s32 judge_ip(struct __sk_buff *skb, const struct packet *packet)
{
	const struct headers *headers = &packet->headers;
	int right;

	if (packet->is_ipv6)
		return packet->there < packet->total_bytes ? MCR_DROP_TRUNCATED : packet->obstacle;
	right = packet->header_bytes == IPV4_BYTES ?
			    fold(sum_of_ip(&headers->ip)) == 0xffff :
			    options_checksum_is_right(skb, packet->ip_at, packet->header_bytes);

	if (packet->there < packet->total_bytes)
		return MCR_DROP_TRUNCATED;
	if (!right)
		return MCR_DROP_BAD_IP_CHECKSUM;
	if (packet->header_bytes > IPV4_BYTES)
		return is_fragment(packet) ? MCR_DROP_FRAGMENT : MCR_DROP_IP_OPTIONS;
	return GOOD;
}

/* Verdicts 10 to 12. */
static __always_inline __s32 judge_udp(struct __sk_buff *skb, const struct packet *packet, int other_aggregate)
{
	__u32 udp_bytes = packet->total_bytes - packet->header_bytes;
	__u32 length = bpf_ntohs(packet->udp.length);
	int is_super_frame = packet->packets > 1;

	if (udp_bytes < UDP_BYTES)
		return MCR_DROP_BAD_UDP_LENGTH;
	if (length != udp_bytes && !(is_super_frame && length == UDP_BYTES + packet->segment_bytes))
		return MCR_DROP_BAD_UDP_LENGTH;
	if (packet->checksum == CHECKSUM_PARTIAL)
		return other_aggregate ? MCR_DROP_GSO_UNSUPPORTED : GOOD;
	/* IPv6 has no datagram without one (RFC 8200 section 8.1). */
	if (packet->udp.checksum == 0 && packet->is_ipv6)
		return MCR_DROP_BAD_UDP_CHECKSUM;
	/* A sum that the kernel or the device vouches for is not made again: it costs as much as all the rest. */
	if (packet->udp.checksum != 0 && packet->checksum != CHECKSUM_UNNECESSARY &&
	    !udp_checksum_is_right(skb, packet, udp_bytes))
		return MCR_DROP_BAD_UDP_CHECKSUM;
	/* The kernel gives segments a checksum only when it was left to be completed (net/ipv4/udp_offload.c). */
	return is_super_frame || other_aggregate ? MCR_DROP_GSO_UNSUPPORTED : GOOD;
}

/* In place of verdicts 10 to 12. What the UDP checksum covers is not all there. */
static __always_inline __s32 judge_fragment(const struct packet *packet)
{
	__u32 there = packet->total_bytes - packet->header_bytes;

	if (is_later_fragment(packet))
		return GOOD;
	if (there < UDP_BYTES || bpf_ntohs(packet->udp.length) <= there)
		return MCR_DROP_BAD_UDP_LENGTH;
	return packet->is_ipv6 && packet->udp.checksum == 0 ? MCR_DROP_BAD_UDP_CHECKSUM : GOOD;
}

/* GOOD, or why the packet is to be dropped. */
__noinline int judge(struct __sk_buff *skb, struct packet *packet)
{
	int other_aggregate = 0;
	__s32 reason;

	if (!packet)
		return MCR_DROP_BAD_IP_HEADER; /* never */
	if (skb->gso_size != 0) {
		other_aggregate = !is_udp_super_frame(skb);
		packet->segment_bytes = other_aggregate ? 0 : skb->gso_size;
	}
	measure(packet);
	packet->checksum = checksum_state(skb);
	reason = judge_ip(skb, packet);
	if (reason == GOOD && is_piece(packet) && (packet->checksum == CHECKSUM_PARTIAL || skb->gso_size))
		reason = MCR_DROP_FRAGMENT;
	if (reason == GOOD)
		reason = is_fragment(packet) ? judge_fragment(packet) : judge_udp(skb, packet, other_aggregate);
	if (reason == GOOD && came_back_to_us(packet->destination.ifindex, packet->headers.source_mac))
		reason = MCR_DROP_LOOP;
	return reason;
}

#endif
