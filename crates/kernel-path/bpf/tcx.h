/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The relay at tcx ingress.
 *
 *   frame -> read_headers -> find -> judge -> each relay -> each output -> clone, counted
 *
 * Verdicts and bytes are those of mcr-wire (frame.rs, rewrite.rs), which has the table of verdicts. Frames of no relay go on
 * untouched; those of a relay end here, sent or counted by reason.
 */
#ifndef MCR_TCX_H
#define MCR_TCX_H

#include <bpf/bpf_core_read.h>

#include "lookup.h"
#include "rate.h"
#include "rewrite.h"

#define TCX_NEXT (-1)
#define TCX_DROP 2
/* A frame that passed; else a drop reason. */
#define GOOD (-1)

/* How far the verifier lets packet memory be reached by a variable offset, in a power of two (MAX_PACKET_OFF). */
#define MOST_DIRECT 0x7fff

struct scratch {
	__u8 bytes[CHUNK_BYTES + 4];
};
MAP(scratch, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct scratch, 0);

/* A frame at hand. */
struct packet {
	struct __sk_buff *skb;
	struct headers headers; /* as they arrived */
	struct mcr_destination destination;
	__u32 ip_at;         /* bytes before the IPv4 header */
	__u32 there;         /* bytes from the IPv4 header to the end of the frame */
	__u32 header_bytes;  /* of the IPv4 header */
	__u32 total_bytes;   /* of the IPv4 packet */
	__u32 segment_bytes; /* payload of each segment of a super-frame; 0: none */
	__u32 packets;       /* datagrams */
	__u32 ip_bytes;      /* of all of them */
	__u32 largest;       /* bytes of the largest */
	__u16 priority;      /* upper four bits of the tag */
	__u16 tagged;        /* whether there was a tag */
	__u32 checksum;      /* enum checksum_state */
	__s32 reason;        /* GOOD, or why it is dropped */
	__u32 accepted;      /* whether a relay wants it */
	__u32 stripped;      /* whether tag and padding are off */
	__u32 output;        /* record of the output that is looked at next */
};

/* ---- checksums ---- */

static __noinline int options_checksum_is_right(struct __sk_buff *skb, __u32 ip_at, __u32 header_bytes)
{
	__u32 words[MOST_IPV4_BYTES / 4] = {};
	__u64 sum = 0;

	if (header_bytes > MOST_IPV4_BYTES || header_bytes < IPV4_BYTES)
		return 0;
	if (bpf_skb_load_bytes(skb, ip_at, words, header_bytes))
		return 0;
	for (int i = 0; i < MOST_IPV4_BYTES / 4; i++)
		sum += words[i];
	return fold(sum) == 0xffff;
}

/* A sum under way over what is in the frame from `at` on. */
struct summing {
	struct __sk_buff *skb;
	__u8 *buffer; /* CHUNK_BYTES + 4 */
	__u32 at;
	__u32 bytes; /* still to be added */
	__u32 sum;
	__u32 failed;
};

/* Adds a whole chunk: in place where it lies in one piece, else from a copy. */
static long add_chunk(__u32 index, struct summing *summing)
{
	struct __sk_buff *skb = summing->skb;
	void *chunk = (void *)(long)skb->data + (summing->at & MOST_DIRECT);

	if (summing->at <= MOST_DIRECT && chunk + CHUNK_BYTES <= (void *)(long)skb->data_end) {
		summing->sum = bpf_csum_diff(0, 0, chunk, CHUNK_BYTES, summing->sum);
	} else if (bpf_skb_load_bytes(skb, summing->at, summing->buffer, CHUNK_BYTES)) {
		summing->failed = 1;
		return 1;
	} else {
		summing->sum = bpf_csum_diff(0, 0, (__be32 *)summing->buffer, CHUNK_BYTES, summing->sum);
	}
	summing->at += CHUNK_BYTES;
	summing->bytes -= CHUNK_BYTES;
	return 0;
}

/* The sum over `bytes` bytes of the frame from `at` on, and `sum`; 0, which is never right, when they can not be read. */
static __noinline __u32 sum_of_payload(struct __sk_buff *skb, __u32 at, __u32 bytes, __u32 sum)
{
	__u32 zero = 0;
	struct scratch *scratch_of_cpu = bpf_map_lookup_elem(&scratch, &zero);
	struct summing summing = { .skb = skb, .at = at, .bytes = bytes, .sum = sum };
	__u32 tail = bytes % CHUNK_BYTES;
	__u8 *buffer;

	if (!scratch_of_cpu)
		return 0;
	buffer = summing.buffer = scratch_of_cpu->bytes;
	if (bytes >= CHUNK_BYTES)
		bpf_loop(bytes / CHUNK_BYTES, add_chunk, &summing, 0);
	if (summing.failed || tail == 0)
		return summing.failed ? 0 : summing.sum;
	if (bpf_skb_load_bytes(skb, summing.at, buffer, tail))
		return 0;
	buffer[tail] = 0;
	buffer[tail + 1] = 0;
	buffer[tail + 2] = 0;
	return bpf_csum_diff(0, 0, (__be32 *)buffer, (tail + 3) & ~3U, summing.sum);
}

static __always_inline int udp_checksum_is_right(const struct packet *packet, __u32 udp_bytes)
{
	const struct headers *headers = &packet->headers;
	__u64 sum = sum_of_pseudo_header(headers->ip.source, headers->ip.destination, headers->udp.length);

	sum = (sum & 0xffffffff) + (sum >> 32);
	return fold(sum_of_payload(packet->skb, packet->ip_at + IPV4_BYTES, udp_bytes, sum)) == 0xffff;
}

/* ---- counting ---- */

/* A frame that no relay can be charged with, to an address that one of them listens to. */
static __always_inline void count_on_input(const struct packet *packet, __u32 reason)
{
	struct mcr_watched key = { .ifindex = packet->skb->ifindex, .address.word[0] = packet->headers.ip.destination };
	__u32 *slot = bpf_map_lookup_elem(&watched, &key);

	if (slot)
		count_dropped(&input_dropped, *slot, reason, packet->packets);
}

/* ---- reading ---- */

/*
 * Reads the link layer: verdicts 1 and 2. The headers may be cut short by the end of the frame, in `there`; false: not ours.
 * Anything shorter than an IPv4 header has no address that would make it ours.
 */
static __always_inline int read_link(struct packet *packet)
{
	struct __sk_buff *skb = packet->skb;
	struct headers *headers = &packet->headers;
	__u32 bytes = skb->len;
	__u16 tag = 0;

	if (bytes < ETHERNET_BYTES + IPV4_BYTES)
		return 0;
	packet->ip_at = ETHERNET_BYTES;
	if (bpf_skb_load_bytes(skb, 0, headers->destination_mac, bytes < HEADERS_BYTES ? bytes : HEADERS_BYTES))
		return 0;
	if (skb->vlan_present) {
		tag = skb->vlan_tci;
		packet->tagged = 1;
	} else if (is_tag(headers->ethertype)) {
		__u32 rest = bytes - ETHERNET_BYTES - TAG_BYTES;

		tag = bpf_ntohs(*(__be16 *)&headers->ip);
		headers->ethertype = *((__be16 *)&headers->ip + 1);
		packet->tagged = 1;
		packet->ip_at += TAG_BYTES;
		if (rest < IPV4_BYTES || rest > 0xffffff)
			return 0;
		if (bpf_skb_load_bytes(skb, ETHERNET_BYTES + TAG_BYTES, &headers->ip,
				       rest < IPV4_BYTES + UDP_BYTES ? rest : IPV4_BYTES + UDP_BYTES))
			return 0;
	}
	packet->there = bytes - packet->ip_at;
	packet->priority = tag & VLAN_PRIORITY;
	packet->destination.vlan = tag & VLAN_NUMBER;
	return headers->ethertype == bpf_htons(ETHERTYPE_IPV4) && packet->destination.vlan != VLAN_NUMBER;
}

/* How many datagrams, of how many bytes: a super-frame counts as its segments. */
static __always_inline void measure(struct packet *packet)
{
	__u32 headers = packet->header_bytes + UDP_BYTES;
	__u32 payload = packet->total_bytes > headers ? packet->total_bytes - headers : 0;
	__u32 segment = packet->segment_bytes;

	headers = packet->total_bytes - payload;
	packet->packets = 1;
	packet->largest = headers + payload;
	if (segment != 0 && segment < payload) {
		packet->packets = (payload + segment - 1) / segment;
		packet->largest = headers + segment;
	}
	packet->ip_bytes = packet->packets * headers + payload;
}

enum readable {
	NOT_OURS,
	UNREADABLE, /* ours perhaps, for its address, but it has no port to tell the relay by */
	READABLE,
};

/* Reads as far as the ports: verdicts 3 to 5, and the destination of the later ones. */
static __always_inline enum readable read_headers(struct packet *packet)
{
	struct __sk_buff *skb = packet->skb;
	struct headers *headers = &packet->headers;
	__u32 there, first = headers->ip.version_and_words;

	packet->header_bytes = (first & 0x0f) * 4;
	packet->total_bytes = bpf_ntohs(headers->ip.total_bytes);
	packet->packets = 1;
	if (first >> 4 != 4 || packet->header_bytes < IPV4_BYTES || packet->total_bytes < packet->header_bytes) {
		packet->reason = MCR_DROP_BAD_IP_HEADER;
		return UNREADABLE;
	}
	if (headers->ip.protocol != PROTOCOL_UDP)
		return NOT_OURS;
	/* Seen only because the interface is promiscuous. */
	if (skb->pkt_type == PACKET_OTHERHOST && (headers->ip.destination & bpf_htonl(0xf0000000)) != bpf_htonl(0xe0000000))
		return NOT_OURS;
	there = packet->there < packet->total_bytes ? packet->there : packet->total_bytes;
	if ((headers->ip.fragmentation & bpf_htons(OFFSET_MASK)) || there < packet->header_bytes + 4) {
		packet->reason = there < packet->total_bytes ? MCR_DROP_TRUNCATED :
				 headers->ip.fragmentation & bpf_htons(FRAGMENT_MASK) ? MCR_DROP_FRAGMENT :
				 packet->header_bytes > IPV4_BYTES ? MCR_DROP_IP_OPTIONS : MCR_DROP_BAD_UDP_LENGTH;
		if (packet->reason != MCR_DROP_TRUNCATED &&
		    !options_checksum_is_right(skb, packet->ip_at, packet->header_bytes))
			packet->reason = MCR_DROP_BAD_IP_CHECKSUM;
		return UNREADABLE;
	}
	if (packet->header_bytes > IPV4_BYTES &&
	    bpf_skb_load_bytes(skb, packet->ip_at + packet->header_bytes, &headers->udp, 4))
		return NOT_OURS;
	packet->destination.ifindex = skb->ifindex;
	packet->destination.address.word[0] = headers->ip.destination;
	packet->destination.port = headers->udp.destination;
	return READABLE;
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
static __always_inline __s32 judge_ip(struct packet *packet)
{
	const struct headers *headers = &packet->headers;
	int right = packet->header_bytes == IPV4_BYTES ?
			    fold(sum_of_ip(&headers->ip)) == 0xffff :
			    options_checksum_is_right(packet->skb, packet->ip_at, packet->header_bytes);

	if (packet->there < packet->total_bytes)
		return MCR_DROP_TRUNCATED;
	if (!right)
		return MCR_DROP_BAD_IP_CHECKSUM;
	if (headers->ip.fragmentation & bpf_htons(FRAGMENT_MASK))
		return MCR_DROP_FRAGMENT;
	if (packet->header_bytes > IPV4_BYTES)
		return MCR_DROP_IP_OPTIONS;
	return GOOD;
}

/* Verdicts 10 to 12. */
static __always_inline __s32 judge_udp(struct packet *packet, int other_aggregate)
{
	const struct headers *headers = &packet->headers;
	__u32 udp_bytes = packet->total_bytes - IPV4_BYTES;
	__u32 length = bpf_ntohs(headers->udp.length);
	int is_super_frame = packet->packets > 1;

	if (udp_bytes < UDP_BYTES)
		return MCR_DROP_BAD_UDP_LENGTH;
	if (length != udp_bytes && !(is_super_frame && length == UDP_BYTES + packet->segment_bytes))
		return MCR_DROP_BAD_UDP_LENGTH;
	if (packet->checksum == CHECKSUM_PARTIAL)
		return other_aggregate ? MCR_DROP_GSO_UNSUPPORTED : GOOD;
	/* A sum that the kernel or the device vouches for is not made again: it costs as much as all the rest. */
	if (headers->udp.checksum != 0 && packet->checksum != CHECKSUM_UNNECESSARY &&
	    !udp_checksum_is_right(packet, udp_bytes))
		return MCR_DROP_BAD_UDP_CHECKSUM;
	/* The kernel gives segments a checksum only when it was left to be completed (net/ipv4/udp_offload.c). */
	return is_super_frame || other_aggregate ? MCR_DROP_GSO_UNSUPPORTED : GOOD;
}

static __always_inline __s32 judge(struct packet *packet)
{
	struct __sk_buff *skb = packet->skb;
	int other_aggregate = 0;
	__s32 reason;

	if (skb->gso_size != 0) {
		other_aggregate = !is_udp_super_frame(skb);
		packet->segment_bytes = other_aggregate ? 0 : skb->gso_size;
	}
	measure(packet);
	packet->checksum = checksum_state(skb);
	reason = judge_ip(packet);
	if (reason == GOOD)
		reason = judge_udp(packet, other_aggregate);
	if (reason == GOOD && came_back_to_us(packet->destination.ifindex, packet->headers.source_mac))
		reason = MCR_DROP_LOOP;
	return reason;
}

/* ---- sending ---- */

/* Takes tag and padding off, once a copy is to be sent and not before: what is not relayed goes on untouched. */
static __always_inline long strip(struct packet *packet)
{
	struct __sk_buff *skb = packet->skb;
	long error = 0;

	if (packet->stripped)
		return 0;
	if (packet->tagged)
		error = bpf_skb_vlan_pop(skb);
	if (!error && packet->there > packet->total_bytes)
		error = bpf_skb_change_tail(skb, ETHERNET_BYTES + packet->total_bytes, 0);
	packet->stripped = !error;
	return error;
}

static __always_inline long store(const struct packet *packet, const struct headers *headers)
{
	struct __sk_buff *skb = packet->skb;

	if (packet->checksum != CHECKSUM_COMPLETE)
		return bpf_skb_store_bytes(skb, 0, headers->destination_mac, HEADERS_BYTES, 0);
	/* The device's sum over the packet goes with it, and has to stay true; it does not cover the Ethernet header. */
	return bpf_skb_store_bytes(skb, 0, headers->destination_mac, ETHERNET_BYTES, 0) ?:
		       bpf_skb_store_bytes(skb, ETHERNET_BYTES, &headers->ip, IPV4_BYTES + UDP_BYTES,
					   BPF_F_RECOMPUTE_CSUM);
}

/* Makes the frame that of an output. */
static __always_inline long dress(struct packet *packet, const struct mcr_output *output)
{
	struct headers headers = packet->headers;
	long error = strip(packet);

	if (error)
		return error;
	__builtin_memcpy(headers.destination_mac, output->destination_mac, 6);
	__builtin_memcpy(headers.source_mac, output->source_mac, 6);
	rewrite(&headers.ip, &headers.udp, packet->checksum, output);
	error = store(packet, &headers);
	if (!error && output->vlan)
		error = bpf_skb_vlan_push(packet->skb, bpf_htons(TPID_8021Q), packet->priority | output->vlan);
	return error;
}

/* Why a copy was not taken: errors are negative, NET_XMIT_* positive. */
static __always_inline __u32 reason_of(long result)
{
	if (result > 0)
		return MCR_DROP_OUTPUT_QUEUE_FULL;
	switch (result) {
	case -22 /* EINVAL: no such interface */:
		return MCR_DROP_OUTPUT_MISSING;
	case -100 /* ENETDOWN */:
		return MCR_DROP_OUTPUT_DOWN;
	case -105 /* ENOBUFS */:
		return MCR_DROP_OUTPUT_QUEUE_FULL;
	default:
		return MCR_DROP_SEND_FAILED;
	}
}

/* Sends a copy. It is a clone, the last one too: so the kernel answers for each, and what became of it is counted. */
static __noinline long send_copy(struct packet *packet, const struct mcr_output *output)
{
	long result = dress(packet, output);

	if (result) {
		count_dropped(&dropped, output->slot, MCR_DROP_SEND_FAILED, packet->packets);
		return 0;
	}
	result = bpf_clone_redirect(packet->skb, interface_of(output), 0);
	if (result)
		count_dropped(&dropped, output->slot, reason_of(result), packet->packets);
	else
		count_sent(output->slot, packet->packets, packet->ip_bytes);
	if (output->vlan)
		bpf_skb_vlan_pop(packet->skb);
	return 0;
}

static long each_output(__u32 index, struct packet *packet)
{
	__u32 record = packet->output, reason;
	struct mcr_output *output = bpf_map_lookup_elem(&outputs, &record);

	if (record == 0 || !output)
		return 1;
	packet->output = output->next;
	if (packet->reason != GOOD) {
		reason = packet->reason;
	} else if (output->drop) {
		reason = output->drop - 1;
	} else if (packet->headers.ip.ttl < output->least_ttl) {
		reason = MCR_DROP_TTL_EXPIRED;
	} else if (packet->largest > output->mtu) {
		reason = MCR_DROP_TOO_BIG;
	} else if (is_capped(&output->cap) &&
		   !admits(RELAY_SLOTS + output->slot, &output->cap, packet->packets, packet->ip_bytes)) {
		reason = MCR_DROP_RATE_LIMITED;
	} else {
		send_copy(packet, output);
		return 0;
	}
	count_dropped(&dropped, output->slot, reason, packet->packets);
	return 0;
}

static __noinline int serve(struct packet *packet, const struct mcr_relay *relay)
{
	struct mcr_address source = { .word[0] = packet->headers.ip.source };
	__s32 reason = packet->reason;

	if (!accepts(relay, &source))
		return 0;
	packet->accepted = 1;
	count_received(relay->slot, packet->packets, packet->ip_bytes);
	if (reason == GOOD && is_capped(&relay->cap) &&
	    !admits(relay->slot, &relay->cap, packet->packets, packet->ip_bytes))
		packet->reason = MCR_DROP_RATE_LIMITED;
	packet->output = relay->first_output;
	/* Most relays have one output. */
	each_output(0, packet);
	if (packet->output)
		bpf_loop(MCR_MOST_OUTPUTS, each_output, packet, 0);
	packet->reason = reason;
	return 0;
}

struct walk {
	struct packet *packet;
	__u32 relay; /* record of the relay that is looked at next */
};

static long each_relay(__u32 index, struct walk *walk)
{
	__u32 record = walk->relay;
	struct mcr_relay *relay = bpf_map_lookup_elem(&relays, &record);

	if (record == 0 || !relay)
		return 1;
	walk->relay = relay->next;
	serve(walk->packet, relay);
	return 0;
}

SEC("classifier")
int mcr_tcx(struct __sk_buff *skb)
{
	struct packet packet = { .skb = skb, .reason = GOOD };
	struct walk walk = { .packet = &packet };
	enum readable readable;
	struct mcr_relay *relay;

	if (skb->protocol != bpf_htons(ETHERTYPE_IPV4) && !is_tag(skb->protocol))
		return TCX_NEXT;
	if (!read_link(&packet))
		return TCX_NEXT;
	readable = read_headers(&packet);
	if (readable == UNREADABLE)
		count_on_input(&packet, packet.reason);
	if (readable != READABLE)
		return TCX_NEXT;
	relay = find(&packet.destination);
	if (!relay)
		return TCX_NEXT;
	packet.reason = judge(&packet);
	serve(&packet, relay);
	walk.relay = relay->next;
	if (walk.relay)
		bpf_loop(MCR_MOST_SHARING, each_relay, &walk, 0);
	if (!packet.accepted) {
		count_on_input(&packet, packet.reason == GOOD ? MCR_DROP_SOURCE_NOT_LISTED : packet.reason);
		return TCX_NEXT;
	}
	return TCX_DROP;
}

#endif
