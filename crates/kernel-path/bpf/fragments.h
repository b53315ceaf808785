/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Fragments of datagrams: only the first has the ports, and the others follow it. The twin of frame/fragment.rs in mcr-wire. */
#ifndef MCR_FRAGMENTS_H
#define MCR_FRAGMENTS_H

#include "packet.h"
#include "tables.h"

/* What the fragments of a datagram have in common. */
struct fragment_key {
	__u32 ifindex;
	struct mcr_address source;
	struct mcr_address destination;
	__be32 identification;
	__u16 vlan; /* as in struct mcr_destination, and so: */
	__u16 outer_vlan;
};

/* The destination ports of first fragments that a relay accepted, sent or not. */
MAP(fragments, BPF_MAP_TYPE_LRU_HASH, struct fragment_key, __be16, 0);

static __always_inline struct fragment_key key_of_fragment(const struct packet *packet)
{
	const struct headers *headers = &packet->headers;
	const struct mcr_destination *in = &packet->destination;
	struct fragment_key key = {
		.ifindex = in->ifindex,
		.identification = packet->identification,
		.vlan = (in->vlan & VLAN_NUMBER) | (packet->is_ipv6 ? MCR_KEY_IPV6 : 0),
		.outer_vlan = in->outer_vlan,
	};

	set_address(packet, &key.source, headers->ip.source, headers->ip6.source);
	set_address(packet, &key.destination, headers->ip.destination, headers->ip6.destination);
	return key;
}

/* Finds the port of a later fragment's first: 0 if that was not relayed. */
static __noinline int follow_first(struct packet *packet)
{
	struct fragment_key key = key_of_fragment(packet);
	__be16 *port = bpf_map_lookup_elem(&fragments, &key);

	if (port)
		packet->udp.destination = *port;
	return port != 0;
}

/* Has the later fragments of a first one that a relay wants follow it. */
static __noinline int note_first(const struct packet *packet)
{
	struct fragment_key key = key_of_fragment(packet);

	return bpf_map_update_elem(&fragments, &key, &packet->udp.destination, BPF_ANY);
}

/* What an IPv6 fragment header says of its place, as an IPv4 header would; and that there is one. */
static __always_inline __be16 fragmentation_of(const struct fragment_header *header)
{
	__u16 place = bpf_ntohs(header->place);

	return bpf_htons(FRAGMENT_HEADER | (place & FRAGMENT_HEADER_MORE ? MORE_FRAGMENTS : 0) | place >> 3);
}

/* The header in front of UDP, or of a piece of it, of a copy. */
static __always_inline void put_fragment_header(struct fragment_header *header, const struct packet *packet)
{
	__u16 place = bpf_ntohs(packet->fragmentation);

	header->next = PROTOCOL_UDP;
	header->reserved = 0;
	header->place = bpf_htons((place & OFFSET_MASK) << 3 | (place & MORE_FRAGMENTS ? FRAGMENT_HEADER_MORE : 0));
	header->identification = packet->identification;
}

#endif
