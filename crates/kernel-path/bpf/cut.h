/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Copies in pieces, for an output that has those cut which are larger than its MTU: the twin of split.rs in mcr-wire. What is
 * behind the IP header is kept beside the frame, which is made one piece after the other.
 *
 * Not cut is what came with its checksum, or its segments, left to a device: no helper ends that, and the device would write
 * into every piece.
 */
#ifndef MCR_CUT_H
#define MCR_CUT_H

#include "copies.h"

#define MOST_PIECES 256
/* Bytes behind the IP header; a frame of more may not grow again (BPF_SKB_MAX_LEN, net/core/filter.c). */
#define MOST_CUT_BYTES 15872
/* Bytes that offsets count in. */
#define UNIT_BYTES 8

struct cutting {
	struct packet whole;
	__u32 done;   /* bytes that are in the pieces before the next one */
	__u32 room;   /* most bytes of a piece */
	__s32 reason; /* GOOD, or why a piece was not taken */
	/* Twice: the verifier takes the largest place and the largest piece together. */
	__u8 bytes[2 * MOST_CUT_BYTES];
};
/*
 * One for each CPU. Nobody else gets at it between the first piece and the last: bottom halves are off, and what a clone is
 * sent to hands it to another program of ours later, by a queue.
 */
MAP(cuttings, BPF_MAP_TYPE_ARRAY, __u32, struct cutting, 0);
/* How many datagrams were cut, by the number of the port: two outputs of an interface may have the same addresses. */
MAP(identifications, BPF_MAP_TYPE_ARRAY, __u32, __u32, 0);
/* Where they begin to count; set before loading. */
volatile const __u32 FIRST_IDENTIFICATION = 0;

/* Hides from the compiler what is known of a number, so that it is asked where the verifier looks. */
#define ASK(number) asm volatile("" : "+r"(number))

static __always_inline struct cutting *cutting_of_cpu(void)
{
	__u32 cpu = bpf_get_smp_processor_id();

	return bpf_map_lookup_elem(&cuttings, &cpu);
}

static __always_inline __u32 bytes_behind_ip(const struct packet *packet)
{
	return packet->total_bytes - packet->header_bytes;
}

static __always_inline __u32 ip_header_bytes_of_pieces(const struct mcr_output *output)
{
	return output->flags & MCR_OUTPUT_IPV6 ? IPV6_BYTES + EXTENSION_BYTES : IPV4_BYTES;
}

/* Bytes before what is behind the IP header, once tags are off. */
static __always_inline __u32 bytes_up_to_ip_header_now(const struct packet *packet)
{
	return ETHERNET_BYTES + (packet->is_ipv6_now ? IPV6_BYTES : IPV4_BYTES) +
	       (packet->has_fragment_header_now ? EXTENSION_BYTES : 0);
}

/* Most bytes behind the IP header of a piece; 0: an output can not have the packet cut. */
static __always_inline __u32 room_of_pieces(const struct packet *packet, const struct mcr_output *output)
{
	__u32 headers = ip_header_bytes_of_pieces(output), behind = bytes_behind_ip(packet);
	__u32 offset = (bpf_ntohs(packet->fragmentation) & OFFSET_MASK) * UNIT_BYTES;
	__u32 room;

	if (!(output->flags & MCR_CUTS) || packet->checksum == CHECKSUM_PARTIAL || output->mtu < headers)
		return 0;
	room = (output->mtu - headers) / UNIT_BYTES * UNIT_BYTES;
	if (behind > MOST_CUT_BYTES || offset + behind > OFFSET_MASK * UNIT_BYTES || behind > MOST_PIECES * room)
		return 0;
	return room;
}

/* Makes the frame, of which there is a piece only, the whole packet again. */
__noinline int make_whole(struct __sk_buff *skb, struct packet *packet)
{
	struct cutting *cutting = cutting_of_cpu();
	__u32 at, bytes;

	if (!packet || !packet->is_cut)
		return 0;
	if (!cutting || (packet->has_fragment_header_now && !is_piece(packet) && make_room(skb, packet, -EXTENSION_BYTES)))
		return -1;
	at = bytes_up_to_ip_header_now(packet);
	bytes = bytes_behind_ip(packet);
	ASK(bytes);
	if (bytes == 0 || bytes > MOST_CUT_BYTES || bpf_skb_change_tail(skb, at + bytes, 0) ||
	    bpf_skb_store_bytes(skb, at, cutting->bytes, bytes, 0))
		return -1;
	packet->is_cut = 0;
	return 0;
}

/* The checksum that a datagram of IPv4 would have come with. */
static __always_inline __be16 missing_checksum(const struct packet *packet)
{
	const struct udp *udp = &packet->udp;
	const struct ipv4 *ip = &packet->headers.ip;
	__u64 sum = sum_of_pseudo_header(ip->source, ip->destination, udp->length) + udp->source + udp->destination +
		    udp->length + packet->payload_sum;
	__be16 checksum = ~fold(sum);

	return checksum ? checksum : 0xffff;
}

/* Has the pieces of a packet say whose they are. A fragment keeps its identification. */
static __noinline void begin_pieces(struct packet *packet, const struct mcr_output *output)
{
	__u32 port = output->port;
	__u32 *next = bpf_map_lookup_elem(&identifications, &port);

	if (!is_fragment(packet) && next)
		packet->identification = bpf_htonl(FIRST_IDENTIFICATION + __sync_fetch_and_add(next, 1));
	if (packet->udp.checksum == 0 && output->flags & MCR_OUTPUT_IPV6 && packet->is_summed)
		packet->udp.checksum = missing_checksum(packet);
	packet->fragmentation = bpf_htons(MORE_FRAGMENTS);
}

/* Makes what is known of a packet that of `bytes` bytes of it, after `done`. */
static __always_inline void describe_piece(struct packet *packet, const struct packet *whole, __u32 done, __u32 bytes)
{
	__u16 place = bpf_ntohs(whole->fragmentation), more = MORE_FRAGMENTS;
	struct ipv4 *ip = &packet->headers.ip;

	if (done + bytes == bytes_behind_ip(whole))
		more &= place;
	packet->fragmentation = bpf_htons(more | ((place & OFFSET_MASK) + done / UNIT_BYTES));
	packet->total_bytes = packet->header_bytes + bytes;
	if (packet->is_ipv6)
		return;
	ip->total_bytes = bpf_htons(packet->total_bytes);
	ip->identification = bpf_htons(bpf_ntohl(packet->identification));
	ip->fragmentation = packet->fragmentation;
}

/* A packet that is being cut for an output. */
struct cut {
	struct __sk_buff *skb;
	struct packet *packet;
	const struct mcr_output *output;
	struct cutting *cutting;
};

static long each_piece(__u32 number, struct cut *cut)
{
	struct packet *packet = cut->packet;
	struct cutting *cutting = cut->cutting;
	__u32 done = cutting->done, bytes = bytes_behind_ip(&cutting->whole) - done;
	__u32 at = bytes_up_to_ip_header_now(packet);

	if (bytes > cutting->room)
		bytes = cutting->room;
	ASK(bytes);
	ASK(done);
	if (bytes == 0 || bytes > MOST_CUT_BYTES || done > MOST_CUT_BYTES)
		return 1;
	describe_piece(packet, &cutting->whole, done, bytes);
	cutting->done = done + bytes;
	if (bpf_skb_change_tail(cut->skb, at + bytes, 0) ||
	    bpf_skb_store_bytes(cut->skb, at, cutting->bytes + done, bytes, 0))
		cutting->reason = MCR_DROP_SEND_FAILED;
	else
		cutting->reason = send_clone(cut->skb, packet, cut->output);
	return cutting->reason != GOOD;
}

/* Puts aside what is behind the IP header, if it is not there from another output. */
static __noinline long keep(struct __sk_buff *skb, struct packet *packet, struct cutting *cutting)
{
	__u32 bytes = bytes_behind_ip(packet);
	long error = strip(skb, packet);

	if (error || packet->is_cut)
		return error;
	ASK(bytes);
	if (bytes == 0 || bytes > MOST_CUT_BYTES)
		return -1;
	error = bpf_skb_load_bytes(skb, bytes_up_to_ip_header_now(packet), cutting->bytes, bytes);
	packet->is_cut = !error;
	return error;
}

/* Sends a copy in pieces: GOOD, or why one of them was not taken; then the rest is not sent. */
__noinline int send_pieces(struct __sk_buff *skb, struct packet *packet, const struct mcr_output *output)
{
	struct cutting *cutting = cutting_of_cpu();
	struct cut cut = { .skb = skb, .packet = packet, .output = output, .cutting = cutting };
	struct packet *whole;

	if (!packet || !output || !cutting || keep(skb, packet, cutting))
		return MCR_DROP_SEND_FAILED;
	whole = &cutting->whole;
	*whole = *packet;
	cutting->done = 0;
	cutting->room = room_of_pieces(packet, output);
	begin_pieces(packet, output);
	cutting->reason = change_family(skb, packet, output) ? MCR_DROP_SEND_FAILED : GOOD;
	if (cutting->reason == GOOD)
		bpf_loop(MOST_PIECES, each_piece, &cut, 0);
	whole->is_ipv6_now = packet->is_ipv6_now;
	whole->has_fragment_header_now = packet->has_fragment_header_now;
	*packet = *whole;
	return cutting->reason;
}

/* Bytes of the IP packets of the pieces that an output sends. */
static __always_inline __u32 bytes_of_pieces(const struct packet *packet, const struct mcr_output *output)
{
	__u32 behind = bytes_behind_ip(packet), room = room_of_pieces(packet, output);

	return room ? (behind + room - 1) / room * ip_header_bytes_of_pieces(output) + behind : 0;
}

/* Sends a copy, in pieces if it is too large, which count as one. */
static __always_inline void send_copy(struct __sk_buff *skb, struct packet *packet, const struct mcr_output *output,
				      int is_too_large)
{
	int reason = is_too_large	     ? send_pieces(skb, packet, output) :
		     make_whole(skb, packet) ? MCR_DROP_SEND_FAILED :
					       send_clone(skb, packet, output);

	if (reason == GOOD)
		count_sent(output->slot, packet->packets,
			   is_too_large ? bytes_of_pieces(packet, output) : bytes_of_copies(packet, output));
	else
		count_dropped(&dropped, output->slot, reason, packet->packets);
}

#endif
