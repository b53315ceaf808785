/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Fragments of IPv4 datagrams: only the first has the ports, and the others follow it. The twin of frame/fragment.rs in mcr-wire. */
#ifndef MCR_FRAGMENTS_H
#define MCR_FRAGMENTS_H

#include "headers.h"
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

#endif
