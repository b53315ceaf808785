/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The relay at tcx ingress.
 *
 *   frame -> read_packet (read.h) -> find -> judge (judge.h) -> each relay -> each output -> send_clone (copies.h), counted;
 *                                                                                     or its pieces (cut.h)
 *
 * Verdicts and bytes are those of mcr-wire (frame.rs, rewrite.rs), which has the table of verdicts. Frames of no relay go on
 * untouched; those of a relay end here, sent or counted by reason.
 *
 * Functions that are not static are verified by themselves, once, and their callers without a look into them: so the verifier
 * walks the sum of their paths, not the product (16,000 steps where there were 400,000; a kernel gives up at a million).
 */
#ifndef MCR_TCX_H
#define MCR_TCX_H

#include "copies.h"
#include "cut.h"
#include "fragments.h"
#include "judge.h"
#include "lookup.h"
#include "packet.h"
#include "rate.h"
#include "read.h"

#define TCX_NEXT (-1)
#define TCX_DROP 2

/* A frame that no relay can be charged with, to an address that one of them listens to. */
static __always_inline void count_on_input(const struct packet *packet, __u32 reason)
{
	struct mcr_watched key = { .ifindex = packet->destination.ifindex };
	__u32 *slot;

	set_address(packet, &key.address, packet->headers.ip.destination, packet->headers.ip6.destination);
	key.family = packet->is_ipv6 ? MCR_KEY_IPV6 : 0;
	slot = bpf_map_lookup_elem(&watched, &key);
	if (slot)
		count_dropped(&input_dropped, *slot, reason, packet->packets);
}

/* A packet on its way to the outputs of relays. */
struct walk {
	struct __sk_buff *skb;
	struct packet *packet;
	__u32 relay;  /* record of the relay that is looked at next */
	__u32 output; /* record of the output */
};

/* Whether it is the beginning of a datagram without a checksum, which nobody can make without the rest. */
static __always_inline int lacks_checksum(const struct packet *packet)
{
	return is_fragment(packet) && !is_later_fragment(packet) && packet->udp.checksum == 0;
}

static long each_output(__u32 index, struct walk *walk)
{
	struct packet *packet = walk->packet;
	__u32 record = walk->output, reason;
	struct mcr_output *output = bpf_map_lookup_elem(&outputs, &record);
	int is_too_large;

	if (record == 0 || !output)
		return 1;
	walk->output = output->next;
	is_too_large = packet->largest + header_bytes_of(packet, output) > output->mtu;
	if (packet->reason != GOOD) {
		reason = packet->reason;
	} else if (output->drop) {
		reason = output->drop - 1;
	} else if (packet->ttl < output->least_ttl) {
		reason = MCR_DROP_TTL_EXPIRED;
	} else if (output->flags & MCR_OUTPUT_IPV6 && lacks_checksum(packet)) {
		reason = MCR_DROP_FRAGMENT;
	} else if (is_too_large && room_of_pieces(packet, output) == 0) {
		reason = MCR_DROP_TOO_BIG;
	} else if (is_capped(&output->cap) &&
		   !admits(RELAY_SLOTS + output->slot, &output->cap, packet->packets,
			   bytes_of_copies(packet, output))) {
		reason = MCR_DROP_RATE_LIMITED;
	} else {
		send_copy(walk->skb, packet, output, is_too_large);
		return 0;
	}
	count_dropped(&dropped, output->slot, reason, packet->packets);
	return 0;
}

/* Sums the payload of a datagram that came without a checksum, where an output has to give it one. */
static __always_inline void sum_for_ipv6(struct __sk_buff *skb, struct packet *packet, const struct mcr_relay *relay)
{
	__u32 headers = (packet->is_ipv6_now ? IPV6_BYTES : IPV4_BYTES) + UDP_BYTES;

	if (!(relay->flags & MCR_NEEDS_CHECKSUM) || packet->is_summed || is_fragment(packet) || packet->reason != GOOD ||
	    packet->checksum == CHECKSUM_PARTIAL || packet->udp.checksum != 0 || make_whole(skb, packet))
		return;
	packet->payload_sum = sum_of_payload(skb, (packet->stripped ? ETHERNET_BYTES : packet->ip_at) + headers,
					     packet->payload, 0);
	packet->is_summed = 1;
}

static __noinline int serve(struct walk *walk, const struct mcr_relay *relay)
{
	struct packet *packet = walk->packet;
	__s32 reason = packet->reason;
	struct mcr_address source;

	set_address(packet, &source, packet->headers.ip.source, packet->headers.ip6.source);
	if (!accepts(relay, &source))
		return 0;
	packet->accepted = 1;
	count_received(relay->slot, packet->packets, ip_bytes(packet));
	if (reason == GOOD && is_capped(&relay->cap) &&
	    !admits(relay->slot, &relay->cap, packet->packets, ip_bytes(packet)))
		packet->reason = MCR_DROP_RATE_LIMITED;
	sum_for_ipv6(walk->skb, packet, relay);
	walk->output = relay->first_output;
	/* Most relays have one output. */
	each_output(0, walk);
	if (walk->output)
		bpf_loop(MCR_MOST_OUTPUTS, each_output, walk, 0);
	packet->reason = reason;
	return 0;
}

static long each_relay(__u32 index, struct walk *walk)
{
	__u32 record = walk->relay;
	struct mcr_relay *relay = bpf_map_lookup_elem(&relays, &record);

	if (record == 0 || !relay)
		return 1;
	walk->relay = relay->next;
	serve(walk, relay);
	return 0;
}

/* What is read of the packet at hand: the stack has no room for it. */
MAP(at_hand, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct packet, 0);

static __always_inline struct packet *new_packet(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct packet *packet = bpf_map_lookup_elem(&at_hand, &zero);

	if (!packet)
		return 0;
	__builtin_memset(packet, 0, sizeof(*packet));
	packet->destination.ifindex = skb->ifindex;
	packet->reason = packet->obstacle = GOOD;
	return packet;
}

SEC("classifier")
int mcr_tcx(struct __sk_buff *skb)
{
	struct walk walk = { .skb = skb };
	struct packet *packet;
	struct mcr_relay *relay;
	int readable;

	if (skb->protocol != bpf_htons(ETHERTYPE_IPV4) && skb->protocol != bpf_htons(ETHERTYPE_IPV6) &&
	    !is_tag(skb->protocol))
		return TCX_NEXT;
	packet = walk.packet = new_packet(skb);
	if (!packet)
		return TCX_NEXT;
	readable = read_packet(skb, packet);
	if (readable == UNREADABLE)
		count_on_input(packet, packet->reason);
	if (readable != READABLE)
		return TCX_NEXT;
	relay = find(&packet->destination);
	if (!relay)
		return TCX_NEXT;
	packet->reason = judge(skb, packet);
	serve(&walk, relay);
	walk.relay = relay->next;
	if (walk.relay)
		bpf_loop(MCR_MOST_SHARING, each_relay, &walk, 0);
	if (!packet->accepted) {
		count_on_input(packet, packet->reason == GOOD ? MCR_DROP_SOURCE_NOT_LISTED : packet->reason);
		return TCX_NEXT;
	}
	if (packet->reason == GOOD && is_fragment(packet) && !is_later_fragment(packet))
		note_first(packet);
	return TCX_DROP;
}

#endif
