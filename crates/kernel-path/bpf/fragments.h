/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Fragments of IPv4 datagrams: only the first has the ports, and the others follow it. The twin of frame/fragment.rs in mcr-wire. */
#ifndef MCR_FRAGMENTS_H
#define MCR_FRAGMENTS_H

#include "packet.h"
#include "tables.h"

/* What the fragments of a datagram have in common. */
struct fragment_key {
	__u32 ifindex;
	__be32 source;
	__be32 destination;
	__be16 identification;
	__u16 vlan; /* as in struct mcr_destination, and so: */
	__u32 outer_vlan;
};

/* The destination ports of first fragments that a relay accepted, sent or not. */
MAP(fragments, BPF_MAP_TYPE_LRU_HASH, struct fragment_key, __be16, 0);

static __always_inline struct fragment_key key_of_fragment(const struct ipv4 *ip, const struct mcr_destination *in)
{
	struct fragment_key key = {
		.ifindex = in->ifindex,
		.source = ip->source,
		.destination = ip->destination,
		.identification = ip->identification,
		.vlan = in->vlan,
		.outer_vlan = in->outer_vlan,
	};

	return key;
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

#endif
