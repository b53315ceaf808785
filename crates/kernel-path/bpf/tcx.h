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
#include "families.h"
#include "fragments.h"
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
/* The headers of a copy in the making, where IPv6 comes or leaves: the stack has no room for them. */
MAP(dressing, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct headers, 0);

/* A frame at hand. */
struct packet {
	struct __sk_buff *skb;
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
	__be16 fragmentation; /* of IPv4: "more fragments" and the offset. As it came, not told apart: see udp_bytes_of */
	__u8 ttl;
	__u16 priority;      /* upper four bits of the tag */
	__u16 tags;          /* how many there were */
	__u32 checksum;      /* enum checksum_state */
	__s32 reason;        /* GOOD, or why it is dropped */
	__u32 accepted;      /* whether a relay wants it */
	__u32 is_first;      /* whether later fragments are to follow it */
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
	__u64 sum = packet->is_ipv6 ?
			    sum_of_pseudo_header6(&headers->ip6, packet->udp.length) :
			    sum_of_pseudo_header(headers->ip.source, headers->ip.destination, packet->udp.length);

	return fold(sum_of_payload(packet->skb, packet->ip_at + packet->header_bytes, udp_bytes, fold(sum))) == 0xffff;
}

/* ---- counting ---- */

/* The address of the packet's family. */
static __always_inline void set_address(const struct packet *packet, struct mcr_address *address, __be32 ipv4,
					const __be32 *ipv6)
{
	address->word[0] = packet->is_ipv6 ? ipv6[0] : ipv4;
	address->word[1] = packet->is_ipv6 ? ipv6[1] : 0;
	address->word[2] = packet->is_ipv6 ? ipv6[2] : 0;
	address->word[3] = packet->is_ipv6 ? ipv6[3] : 0;
}

/* A frame that no relay can be charged with, to an address that one of them listens to. */
static __always_inline void count_on_input(const struct packet *packet, __u32 reason)
{
	struct mcr_watched key = { .ifindex = packet->skb->ifindex };
	__u32 *slot;

	set_address(packet, &key.address, packet->headers.ip.destination, packet->headers.ip6.destination);
	key.family = packet->is_ipv6 ? MCR_KEY_IPV6 : 0;
	slot = bpf_map_lookup_elem(&watched, &key);

	if (slot)
		count_dropped(&input_dropped, *slot, reason, packet->packets);
}

/* ---- reading ---- */

/* Takes a tag that is in the frame for one more, inside of the one before it; the headers become those behind it. */
static __noinline int read_tag(struct packet *packet)
{
	struct headers *headers = &packet->headers;
	__u16 tag = bpf_ntohs(*(__be16 *)&headers->ip), outer = packet->destination.vlan;
	__u32 rest = packet->skb->len - packet->ip_at - TAG_BYTES;

	if (rest < IPV4_BYTES || rest > 0xffffff)
		return 0;
	if (packet->tags == 0)
		packet->priority = tag & VLAN_PRIORITY;
	else if (outer == 0 || outer == VLAN_NUMBER || (tag & VLAN_NUMBER) == 0)
		return 0;
	packet->tags++;
	packet->destination.outer_vlan = outer;
	packet->destination.vlan = tag & VLAN_NUMBER;
	headers->ethertype = *((__be16 *)&headers->ip + 1);
	packet->ip_at += TAG_BYTES;
	return !bpf_skb_load_bytes(packet->skb, packet->ip_at, &headers->ip,
				   rest < IPV6_BYTES + UDP_BYTES ? rest : IPV6_BYTES + UDP_BYTES);
}

/*
 * Reads the link layer: verdicts 1 and 2. The headers may be cut short by the end of the frame, in `there`; false: not ours.
 * Anything shorter than an IP header has no address that would make it ours.
 */
static __always_inline int read_link(struct packet *packet)
{
	struct __sk_buff *skb = packet->skb;
	struct headers *headers = &packet->headers;
	__u32 bytes = skb->len;

	if (bytes < ETHERNET_BYTES + IPV4_BYTES)
		return 0;
	packet->ip_at = ETHERNET_BYTES;
	if (bpf_skb_load_bytes(skb, 0, headers->destination_mac, bytes < HEADERS6_BYTES ? bytes : HEADERS6_BYTES))
		return 0;
	if (skb->vlan_present) {
		packet->priority = skb->vlan_tci & VLAN_PRIORITY;
		packet->destination.vlan = skb->vlan_tci & VLAN_NUMBER;
		packet->tags = 1;
	}
	if (is_tag(headers->ethertype) && !read_tag(packet))
		return 0;
	if (is_tag(headers->ethertype) && (packet->tags > 1 || !read_tag(packet)))
		return 0;
	packet->there = bytes - packet->ip_at;
	packet->is_ipv6 = packet->is_ipv6_now = headers->ethertype == bpf_htons(ETHERTYPE_IPV6);
	return (headers->ethertype == bpf_htons(ETHERTYPE_IPV4) || packet->is_ipv6) &&
	       packet->destination.vlan != VLAN_NUMBER;
}

static __always_inline int is_fragment(const struct packet *packet)
{
	return packet->fragmentation != 0;
}

static __always_inline int is_later_fragment(const struct packet *packet)
{
	return (packet->fragmentation & bpf_htons(OFFSET_MASK)) != 0;
}

/*
 * Bytes of the UDP header, which a later fragment has not. Asked for again and again rather than kept: a number in the packet
 * that the verifier knows splits all paths behind it.
 */
static __always_inline __u32 udp_bytes_of(const struct packet *packet)
{
	return is_later_fragment(packet) ? 0 : UDP_BYTES;
}

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

/* Bytes of its IP packets, as they arrived. */
static __always_inline __u32 ip_bytes(const struct packet *packet)
{
	return packet->packets * (packet->total_bytes - packet->payload) + packet->payload;
}

/* Bytes of the IP and UDP headers of an output's copies. */
static __always_inline __u32 header_bytes_of(const struct packet *packet, const struct mcr_output *output)
{
	return (output->flags & MCR_OUTPUT_IPV6 ? IPV6_BYTES : IPV4_BYTES) + udp_bytes_of(packet);
}

/* Bytes of an output's copies. */
static __always_inline __u32 bytes_of_copies(const struct packet *packet, const struct mcr_output *output)
{
	return packet->packets * header_bytes_of(packet, output) + packet->payload;
}

enum readable {
	NOT_OURS,
	UNREADABLE, /* ours perhaps, for its address, but it has no port to tell the relay by */
	READABLE,
};

/* Notes where the packet was sent, for the look-up. */
static __always_inline void note_destination(struct packet *packet)
{
	set_address(packet, &packet->destination.address, packet->headers.ip.destination,
		    packet->headers.ip6.destination);
	packet->destination.port = packet->udp.destination;
	if (packet->is_ipv6)
		packet->destination.vlan |= MCR_KEY_IPV6;
}

/* Looks past an extension header; `there` is what there is of the packet. */
static __noinline int read_extension(struct packet *packet, __u32 there)
{
	__u8 extension[EXTENSION_BYTES] = {};
	__u8 kind = packet->headers.ip6.next;

	if (!is_extension(kind))
		return NOT_OURS;
	if (there < IPV6_BYTES + EXTENSION_BYTES) {
		packet->reason = packet->there < packet->total_bytes ? MCR_DROP_TRUNCATED : MCR_DROP_BAD_IP_HEADER;
		return UNREADABLE;
	}
	if (bpf_skb_load_bytes(packet->skb, packet->ip_at + IPV6_BYTES, extension, EXTENSION_BYTES))
		return NOT_OURS;
	packet->obstacle = kind == EXTENSION_FRAGMENT ? MCR_DROP_FRAGMENT : MCR_DROP_IP_OPTIONS;
	if (extension[0] != PROTOCOL_UDP) {
		packet->is_portless = 1;
		return is_extension(extension[0]) ? READABLE : NOT_OURS;
	}
	if (kind == EXTENSION_FRAGMENT) {
		packet->is_portless = (extension[2] << 8 | extension[3]) & EXTENSION_OFFSET_MASK ? 1 : 0;
		packet->header_bytes = IPV6_BYTES + EXTENSION_BYTES;
	} else {
		packet->header_bytes = IPV6_BYTES + EXTENSION_BYTES + 8 * extension[1];
	}
	return READABLE;
}

/* Reads as far as the ports: verdicts 3 to 5, and the destination of the later ones. */
static __always_inline enum readable read_ipv6(struct packet *packet)
{
	const struct ipv6 *ip = &packet->headers.ip6;
	enum readable readable = READABLE;
	__u32 there;

	if (packet->there < IPV6_BYTES)
		return NOT_OURS;
	packet->packets = 1;
	packet->ttl = ip->hop_limit;
	packet->header_bytes = IPV6_BYTES;
	packet->total_bytes = IPV6_BYTES + bpf_ntohs(ip->payload_bytes);
	if ((ip->first & bpf_htonl(IPV6_VERSION_MASK)) != bpf_htonl(IPV6_VERSION)) {
		packet->reason = MCR_DROP_BAD_IP_HEADER;
		return UNREADABLE;
	}
	there = packet->there < packet->total_bytes ? packet->there : packet->total_bytes;
	if (ip->next != PROTOCOL_UDP)
		readable = read_extension(packet, there);
	if (readable == NOT_OURS || packet->reason == MCR_DROP_BAD_IP_HEADER)
		return readable;
	/* Seen only because the interface is promiscuous. */
	if (packet->skb->pkt_type == PACKET_OTHERHOST &&
	    (ip->destination[0] & bpf_htonl(0xff000000)) != bpf_htonl(0xff000000))
		return NOT_OURS;
	if (readable == UNREADABLE)
		return UNREADABLE;
	if (packet->is_portless || there < packet->header_bytes + 4) {
		packet->reason = packet->there < packet->total_bytes ? MCR_DROP_TRUNCATED :
				 packet->obstacle != GOOD	     ? packet->obstacle :
								       MCR_DROP_BAD_UDP_LENGTH;
		return UNREADABLE;
	}
	packet->udp = packet->headers.udp6;
	if (packet->header_bytes > IPV6_BYTES &&
	    bpf_skb_load_bytes(packet->skb, packet->ip_at + packet->header_bytes, &packet->udp, 4))
		return NOT_OURS;
	note_destination(packet);
	return READABLE;
}

/* Finds the port of a later fragment's first: 0 if that was not relayed. */
static __noinline int follow_first(struct packet *packet)
{
	struct fragment_key key = key_of_fragment(&packet->headers.ip, &packet->destination);
	__be16 *port = bpf_map_lookup_elem(&fragments, &key);

	if (port)
		packet->udp.destination = *port;
	return port != 0;
}

/* Has the later fragments of a first one that a relay wants follow it. */
static __noinline int note_first(const struct packet *packet)
{
	struct fragment_key key = key_of_fragment(&packet->headers.ip, &packet->destination);

	return bpf_map_update_elem(&fragments, &key, &packet->udp.destination, BPF_ANY);
}

/* The same of IPv4. */
static __always_inline enum readable read_ipv4(struct packet *packet)
{
	struct __sk_buff *skb = packet->skb;
	struct headers *headers = &packet->headers;
	__u32 there, first = headers->ip.version_and_words;

	packet->header_bytes = (first & 0x0f) * 4;
	packet->total_bytes = bpf_ntohs(headers->ip.total_bytes);
	packet->packets = 1;
	packet->ttl = headers->ip.ttl;
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
	packet->fragmentation = headers->ip.fragmentation & bpf_htons(FRAGMENT_MASK);
	packet->udp = headers->udp;
	if (is_later_fragment(packet) || there < packet->header_bytes + 4) {
		packet->reason = there < packet->total_bytes	   ? MCR_DROP_TRUNCATED :
				 is_fragment(packet)		   ? MCR_DROP_FRAGMENT :
				 packet->header_bytes > IPV4_BYTES ? MCR_DROP_IP_OPTIONS :
								     MCR_DROP_BAD_UDP_LENGTH;
		if (packet->reason != MCR_DROP_TRUNCATED &&
		    !options_checksum_is_right(skb, packet->ip_at, packet->header_bytes))
			packet->reason = MCR_DROP_BAD_IP_CHECKSUM;
		if (packet->reason != MCR_DROP_FRAGMENT || packet->header_bytes > IPV4_BYTES || skb->gso_size)
			return UNREADABLE;
		if (!is_later_fragment(packet))
			packet->reason = MCR_DROP_BAD_UDP_LENGTH;
		if (!is_later_fragment(packet) || !follow_first(packet))
			return UNREADABLE;
		packet->reason = GOOD;
	} else if (packet->header_bytes > IPV4_BYTES &&
		   bpf_skb_load_bytes(skb, packet->ip_at + packet->header_bytes, &packet->udp, 4)) {
		return NOT_OURS;
	}
	note_destination(packet);
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
	int right;

	if (packet->is_ipv6)
		return packet->there < packet->total_bytes ? MCR_DROP_TRUNCATED : packet->obstacle;
	right = packet->header_bytes == IPV4_BYTES ?
			    fold(sum_of_ip(&headers->ip)) == 0xffff :
			    options_checksum_is_right(packet->skb, packet->ip_at, packet->header_bytes);

	if (packet->there < packet->total_bytes)
		return MCR_DROP_TRUNCATED;
	if (!right)
		return MCR_DROP_BAD_IP_CHECKSUM;
	if (packet->header_bytes > IPV4_BYTES)
		return is_fragment(packet) ? MCR_DROP_FRAGMENT : MCR_DROP_IP_OPTIONS;
	return GOOD;
}

/* Verdicts 10 to 12. */
static __always_inline __s32 judge_udp(struct packet *packet, int other_aggregate)
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
	    !udp_checksum_is_right(packet, udp_bytes))
		return MCR_DROP_BAD_UDP_CHECKSUM;
	/* The kernel gives segments a checksum only when it was left to be completed (net/ipv4/udp_offload.c). */
	return is_super_frame || other_aggregate ? MCR_DROP_GSO_UNSUPPORTED : GOOD;
}

/* In place of verdicts 10 to 12. What the UDP checksum covers is not all there. */
static __always_inline __s32 judge_fragment(const struct packet *packet)
{
	__u32 there = packet->total_bytes - packet->header_bytes;

	if (packet->checksum == CHECKSUM_PARTIAL || packet->skb->gso_size)
		return MCR_DROP_FRAGMENT;
	if (!is_later_fragment(packet) && (there < UDP_BYTES || bpf_ntohs(packet->udp.length) <= there))
		return MCR_DROP_BAD_UDP_LENGTH;
	return GOOD;
}

/*
 * A number that the verifier does not know any more: it walks all that follows once for each that it does. Through a word of the
 * frame that programs may use as they like.
 */
static __always_inline __s32 forgotten(struct __sk_buff *skb, __s32 number)
{
	volatile __u32 *word = &skb->cb[0];

	*word = number;
	return *word;
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
		reason = is_fragment(packet) ? judge_fragment(packet) : judge_udp(packet, other_aggregate);
	if (reason == GOOD && came_back_to_us(packet->destination.ifindex, packet->headers.source_mac))
		reason = MCR_DROP_LOOP;
	return forgotten(skb, reason);
}

/* ---- sending ---- */

/* Takes tag and padding off, once a copy is to be sent and not before: what is not relayed goes on untouched. */
static __always_inline long strip(struct packet *packet)
{
	struct __sk_buff *skb = packet->skb;
	long error = 0;

	if (packet->stripped)
		return 0;
	if (packet->tags)
		error = bpf_skb_vlan_pop(skb);
	if (!error && packet->tags > 1)
		error = bpf_skb_vlan_pop(skb);
	if (!error && packet->there > packet->total_bytes)
		error = bpf_skb_change_tail(skb, ETHERNET_BYTES + packet->total_bytes, 0);
	packet->stripped = !error;
	return error;
}

static __always_inline long store(const struct packet *packet, const void *headers, __u32 ip_and_udp_bytes)
{
	struct __sk_buff *skb = packet->skb;

	if (packet->checksum != CHECKSUM_COMPLETE)
		return bpf_skb_store_bytes(skb, 0, headers, ETHERNET_BYTES + ip_and_udp_bytes, 0);
	/* The device's sum over the packet goes with it, and has to stay true; it does not cover the Ethernet header. */
	return bpf_skb_store_bytes(skb, 0, headers, ETHERNET_BYTES, 0) ?:
		       bpf_skb_store_bytes(skb, ETHERNET_BYTES, headers + ETHERNET_BYTES, ip_and_udp_bytes,
					   BPF_F_RECOMPUTE_CSUM);
}

/* Ethernet, IPv4 and UDP alone. */
struct ipv4_headers {
	__u16 pad;
	__u8 destination_mac[6];
	__u8 source_mac[6];
	__be16 ethertype;
	struct ipv4 ip;
	struct udp udp;
};

/* Writes the headers of a copy that came as IPv4 and leaves so. */
static __always_inline long dress_ipv4(const struct packet *packet, const struct mcr_output *output)
{
	struct ipv4_headers headers = {
		.ethertype = bpf_htons(ETHERTYPE_IPV4),
		.ip = packet->headers.ip,
		.udp = packet->udp,
	};

	__builtin_memcpy(headers.destination_mac, output->destination_mac, 6);
	__builtin_memcpy(headers.source_mac, output->source_mac, 6);
	if (is_later_fragment(packet)) {
		rewrite_ip(&headers.ip, output);
		return store(packet, headers.destination_mac, IPV4_BYTES);
	}
	rewrite(&headers.ip, &headers.udp,
		is_fragment(packet) ? headers.udp.length : bpf_htons(packet->total_bytes - IPV4_BYTES), packet->checksum,
		output);
	return store(packet, headers.destination_mac, IPV4_BYTES + UDP_BYTES);
}

/* Writes the headers of a copy where IPv6 comes or leaves. */
static __always_inline long dress_family(const struct packet *packet, const struct mcr_output *output)
{
	struct known_sum known = { .state = packet->checksum, .payload = packet->payload_sum };
	struct fields fields;
	struct headers *headers;
	__u32 zero = 0;

	headers = bpf_map_lookup_elem(&dressing, &zero);
	if (!headers)
		return -1;
	__builtin_memcpy(headers->destination_mac, output->destination_mac, 6);
	__builtin_memcpy(headers->source_mac, output->source_mac, 6);
	if (packet->is_ipv6)
		read_ipv6_fields(&fields, &packet->headers.ip6, &packet->udp);
	else
		read_ipv4_fields(&fields, &packet->headers.ip, &packet->udp);
	if (!(output->flags & MCR_OUTPUT_IPV6)) {
		headers->ethertype = bpf_htons(ETHERTYPE_IPV4);
		put_ipv4(&headers->ip, &headers->udp, &fields, output, &known);
		return store(packet, headers->destination_mac, IPV4_BYTES + UDP_BYTES);
	}
	headers->ethertype = bpf_htons(ETHERTYPE_IPV6);
	for (int word = 0; word < 4; word++)
		headers->ip6.source[word] = packet->headers.ip6.source[word];
	put_ipv6(&headers->ip6, &headers->udp6, &fields, output, &known);
	return store(packet, headers->destination_mac, IPV6_BYTES + UDP_BYTES);
}

/* Makes the frame one of the output's family, which has shorter or longer headers. What was its payload stays. */
static __always_inline long change_family(struct packet *packet, const struct mcr_output *output)
{
	__u8 to_ipv6 = output->flags & MCR_OUTPUT_IPV6 ? 1 : 0;
	long error;

	if (packet->is_ipv6_now == to_ipv6)
		return 0;
	error = bpf_skb_change_proto(packet->skb, to_ipv6 ? bpf_htons(ETHERTYPE_IPV6) : bpf_htons(ETHERTYPE_IPV4), 0);
	if (!error)
		packet->is_ipv6_now = to_ipv6;
	return error;
}

/* Pushes an output's tags, or none of them. */
static __always_inline long push_tags(const struct packet *packet, const struct mcr_output *output)
{
	long error = 0;

	if (output->vlan)
		error = bpf_skb_vlan_push(packet->skb, bpf_htons(TPID_8021Q),
					  tag_of(output, output->vlan, packet->priority));
	if (error || !output->outer_vlan)
		return error;
	error = bpf_skb_vlan_push(packet->skb, bpf_htons(TPID_8021AD),
				  tag_of(output, output->outer_vlan, packet->priority));
	if (error)
		bpf_skb_vlan_pop(packet->skb);
	return error;
}

/* Makes the frame that of an output. */
static __always_inline long dress(struct packet *packet, const struct mcr_output *output)
{
	long error = strip(packet) ?: change_family(packet, output);

	if (error)
		return error;
	error = packet->is_ipv6 || packet->is_ipv6_now ? dress_family(packet, output) : dress_ipv4(packet, output);
	return error ?: push_tags(packet, output);
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
		count_sent(output->slot, packet->packets, bytes_of_copies(packet, output));
	if (output->vlan)
		bpf_skb_vlan_pop(packet->skb);
	if (output->outer_vlan)
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
	} else if (packet->ttl < output->least_ttl) {
		reason = MCR_DROP_TTL_EXPIRED;
	} else if (is_fragment(packet) && output->flags & MCR_OUTPUT_IPV6) {
		reason = MCR_DROP_FRAGMENT;
	} else if (packet->largest + header_bytes_of(packet, output) > output->mtu) {
		reason = MCR_DROP_TOO_BIG;
	} else if (is_capped(&output->cap) &&
		   !admits(RELAY_SLOTS + output->slot, &output->cap, packet->packets,
			   bytes_of_copies(packet, output))) {
		reason = MCR_DROP_RATE_LIMITED;
	} else {
		send_copy(packet, output);
		return 0;
	}
	count_dropped(&dropped, output->slot, reason, packet->packets);
	return 0;
}

/* Sums the payload of a datagram that came without a checksum, where an output has to give it one. */
static __always_inline void sum_for_ipv6(struct packet *packet, const struct mcr_relay *relay)
{
	__u32 headers = (packet->is_ipv6_now ? IPV6_BYTES : IPV4_BYTES) + UDP_BYTES;

	if (!(relay->flags & MCR_NEEDS_CHECKSUM) || packet->is_summed || is_fragment(packet) || packet->reason != GOOD ||
	    packet->checksum == CHECKSUM_PARTIAL || packet->udp.checksum != 0)
		return;
	packet->payload_sum = sum_of_payload(packet->skb, (packet->stripped ? ETHERNET_BYTES : packet->ip_at) + headers,
					     packet->payload, 0);
	packet->is_summed = 1;
}

static __noinline int serve(struct packet *packet, const struct mcr_relay *relay)
{
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
	sum_for_ipv6(packet, relay);
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
	struct packet packet = { .skb = skb, .destination.ifindex = skb->ifindex, .reason = GOOD, .obstacle = GOOD };
	struct walk walk = { .packet = &packet };
	enum readable readable;
	struct mcr_relay *relay;

	if (skb->protocol != bpf_htons(ETHERTYPE_IPV4) && skb->protocol != bpf_htons(ETHERTYPE_IPV6) &&
	    !is_tag(skb->protocol))
		return TCX_NEXT;
	if (!read_link(&packet))
		return TCX_NEXT;
	readable = packet.is_ipv6 ? read_ipv6(&packet) : read_ipv4(&packet);
	if (readable == UNREADABLE)
		count_on_input(&packet, packet.reason);
	if (readable != READABLE)
		return TCX_NEXT;
	relay = find(&packet.destination);
	if (!relay)
		return TCX_NEXT;
	packet.reason = judge(&packet);
	packet.is_first = forgotten(skb, is_fragment(&packet) && !is_later_fragment(&packet) && packet.reason == GOOD);
	serve(&packet, relay);
	walk.relay = relay->next;
	if (walk.relay)
		bpf_loop(MCR_MOST_SHARING, each_relay, &walk, 0);
	if (!packet.accepted) {
		count_on_input(&packet, packet.reason == GOOD ? MCR_DROP_SOURCE_NOT_LISTED : packet.reason);
		return TCX_NEXT;
	}
	if (packet.is_first)
		note_first(&packet);
	return TCX_DROP;
}

#endif
