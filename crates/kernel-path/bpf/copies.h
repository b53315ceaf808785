/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Copies at tcx ingress: a frame is made that of an output, and sent as a clone. */
#ifndef MCR_COPIES_H
#define MCR_COPIES_H

#include "families.h"
#include "fragments.h"
#include "lookup.h"
#include "packet.h"
#include "rewrite.h"

/* The headers of a copy in the making, where IPv6 comes or leaves: the stack has no room for them. */
struct dressed {
	struct headers headers;
	struct udp udp; /* of a first fragment of IPv6, whose header is in front of it */
	struct fields fields;
};
MAP(dressing, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct dressed, 0);

/* Takes tag and padding off, once a copy is to be sent and not before: what is not relayed goes on untouched. */
static __always_inline long strip(struct __sk_buff *skb, struct packet *packet)
{
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

static __always_inline long store(struct __sk_buff *skb, const struct packet *packet, const void *headers,
				  __u32 ip_and_udp_bytes)
{
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
static __always_inline long dress_ipv4(struct __sk_buff *skb, const struct packet *packet,
				       const struct mcr_output *output)
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
		return store(skb, packet, headers.destination_mac, IPV4_BYTES);
	}
	rewrite(&headers.ip, &headers.udp,
		is_fragment(packet) ? headers.udp.length : bpf_htons(packet->total_bytes - IPV4_BYTES), packet->checksum,
		output);
	return store(skb, packet, headers.destination_mac, IPV4_BYTES + UDP_BYTES);
}

/* What goes into the headers of a fragment's copies besides. */
static __always_inline void read_piece(struct fields *fields, const struct packet *packet)
{
	fields->udp_bytes = bpf_htons(packet->total_bytes - packet->header_bytes);
	fields->fragmentation = packet->fragmentation & bpf_htons(FRAGMENT_MASK);
	/* The lower half (RFC 7915 section 5.1.1). */
	fields->identification = bpf_htons(bpf_ntohl(packet->identification));
}

/* Makes headers of IPv6 those of a fragment. */
static __always_inline void put_piece(struct dressed *dressed, const struct packet *packet)
{
	struct headers *headers = &dressed->headers;

	dressed->udp = headers->udp6;
	dressed->udp.length = packet->udp.length;
	put_fragment_header(&headers->fragment, packet);
	headers->ip6.next = EXTENSION_FRAGMENT;
	headers->ip6.payload_bytes = bpf_htons(EXTENSION_BYTES + packet->total_bytes - packet->header_bytes);
}

/* Writes the headers of a copy where IPv6 comes or leaves. */
static __always_inline long dress_family(struct __sk_buff *skb, const struct packet *packet,
					 const struct mcr_output *output)
{
	struct known_sum known = { .state = packet->checksum, .payload = packet->payload_sum };
	struct fields *fields;
	struct dressed *dressed;
	struct headers *headers;
	__u32 zero = 0;

	dressed = bpf_map_lookup_elem(&dressing, &zero);
	if (!dressed)
		return -1;
	headers = &dressed->headers;
	fields = &dressed->fields;
	__builtin_memcpy(headers->destination_mac, output->destination_mac, 6);
	__builtin_memcpy(headers->source_mac, output->source_mac, 6);
	if (packet->is_ipv6)
		read_ipv6_fields(fields, &packet->headers.ip6, &packet->udp);
	else
		read_ipv4_fields(fields, &packet->headers.ip, &packet->udp);
	if (is_piece(packet))
		read_piece(fields, packet);
	if (!(output->flags & MCR_OUTPUT_IPV6)) {
		headers->ethertype = bpf_htons(ETHERTYPE_IPV4);
		put_ipv4(&headers->ip, &headers->udp, fields, output, &known);
		if (is_later_fragment(packet))
			return store(skb, packet, headers->destination_mac, IPV4_BYTES);
		if (is_fragment(packet))
			headers->udp.length = packet->udp.length;
		return store(skb, packet, headers->destination_mac, IPV4_BYTES + UDP_BYTES);
	}
	headers->ethertype = bpf_htons(ETHERTYPE_IPV6);
	for (int word = 0; word < 4; word++)
		headers->ip6.source[word] = packet->headers.ip6.source[word];
	put_ipv6(&headers->ip6, &headers->udp6, fields, output, &known);
	if (!is_piece(packet))
		return store(skb, packet, headers->destination_mac, IPV6_BYTES + UDP_BYTES);
	put_piece(dressed, packet);
	if (is_later_fragment(packet))
		return store(skb, packet, headers->destination_mac, IPV6_BYTES + EXTENSION_BYTES);
	return store(skb, packet, headers->destination_mac, IPV6_BYTES + EXTENSION_BYTES + UDP_BYTES);
}

/* Makes room for a fragment header, or takes it away. */
static __always_inline long make_room(struct __sk_buff *skb, struct packet *packet, __s32 bytes)
{
	long error = bpf_skb_adjust_room(skb, bytes, BPF_ADJ_ROOM_NET, BPF_F_ADJ_ROOM_NO_CSUM_RESET);

	if (!error)
		packet->has_fragment_header_now = bytes > 0;
	return error;
}

/* Makes the frame one of the output's family, which has shorter or longer headers. What was its payload stays. */
static __always_inline long change_family(struct __sk_buff *skb, struct packet *packet, const struct mcr_output *output)
{
	__u8 to_ipv6 = output->flags & MCR_OUTPUT_IPV6 ? 1 : 0;
	long error = 0;

	if (packet->is_ipv6_now != to_ipv6) {
		if (packet->has_fragment_header_now)
			error = make_room(skb, packet, -EXTENSION_BYTES);
		if (!error)
			error = bpf_skb_change_proto(skb, to_ipv6 ? bpf_htons(ETHERTYPE_IPV6) : bpf_htons(ETHERTYPE_IPV4),
						     0);
		if (error)
			return error;
		packet->is_ipv6_now = to_ipv6;
	}
	if (to_ipv6 && is_piece(packet) && !packet->has_fragment_header_now)
		error = make_room(skb, packet, EXTENSION_BYTES);
	return error;
}

/* Pushes an output's tags, or none of them. */
static __always_inline long push_tags(struct __sk_buff *skb, const struct packet *packet,
				      const struct mcr_output *output)
{
	long error = 0;

	if (output->vlan)
		error = bpf_skb_vlan_push(skb, bpf_htons(TPID_8021Q),
					  tag_of(output, output->vlan, packet->priority));
	if (error || !output->outer_vlan)
		return error;
	error = bpf_skb_vlan_push(skb, bpf_htons(TPID_8021AD),
				  tag_of(output, output->outer_vlan, packet->priority));
	if (error)
		bpf_skb_vlan_pop(skb);
	return error;
}

/* Makes the frame that of an output. */
static __always_inline long dress(struct __sk_buff *skb, struct packet *packet, const struct mcr_output *output)
{
	long error = strip(skb, packet) ?: change_family(skb, packet, output);

	if (error)
		return error;
	error = packet->is_ipv6 || packet->is_ipv6_now ? dress_family(skb, packet, output) :
							   dress_ipv4(skb, packet, output);
	return error ?: push_tags(skb, packet, output);
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

/*
 * Makes the frame that of an output and sends a clone, the last one too: so the kernel answers for each, and what became of it
 * is counted. GOOD, or why it was not taken.
 */
__noinline int send_clone(struct __sk_buff *skb, struct packet *packet, const struct mcr_output *output)
{
	long result;

	if (!packet || !output || dress(skb, packet, output))
		return MCR_DROP_SEND_FAILED;
	result = bpf_clone_redirect(skb, interface_of(output), 0);
	if (output->vlan)
		bpf_skb_vlan_pop(skb);
	if (output->outer_vlan)
		bpf_skb_vlan_pop(skb);
	return result ? (int)reason_of(result) : GOOD;
}

#endif
