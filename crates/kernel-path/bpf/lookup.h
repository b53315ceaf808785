/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Questions to the tables, and counting. */
#ifndef MCR_LOOKUP_H
#define MCR_LOOKUP_H

#include <bpf/bpf_endian.h>

#include "headers.h"
#include "tables.h"

/* The relay that was found last: packets of a flow come in runs. */
struct recent {
	__u64 generation;
	__u32 record;
};
MAP(recents, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct recent, 0);

static __always_inline int same_address(const struct mcr_address *a, const struct mcr_address *b)
{
	return a->word[0] == b->word[0] && a->word[1] == b->word[1] && a->word[2] == b->word[2] &&
	       a->word[3] == b->word[3];
}

static __always_inline int listens_to(const struct mcr_relay *relay, const struct mcr_destination *destination)
{
	return relay->destination.ifindex == destination->ifindex &&
	       same_address(&relay->destination.address, &destination->address) &&
	       relay->destination.port == destination->port && relay->destination.vlan == destination->vlan &&
	       relay->destination.outer_vlan == destination->outer_vlan;
}

/* The first relay of a destination, or none. */
static __always_inline struct mcr_relay *find(const struct mcr_destination *destination)
{
	__u32 zero = 0, record;
	struct mcr_state *now = bpf_map_lookup_elem(&state, &zero);
	struct recent *recent = bpf_map_lookup_elem(&recents, &zero);
	struct mcr_relay *relay;
	__u64 generation;

	if (!now || !recent)
		return 0;
	/* Before the tables are looked at: a change meanwhile makes what is found one of the generation before. */
	generation = *(volatile __u64 *)&now->generation;
	record = recent->record;
	relay = bpf_map_lookup_elem(&relays, &record);
	if (relay && recent->generation == generation && listens_to(relay, destination))
		return relay;
	/* An element that is given away while it is read leads to another destination's record: look again. */
	for (int attempt = 0; attempt < 4; attempt++) {
		__u32 *element = bpf_map_lookup_elem(&destinations, destination);

		if (!element)
			return 0;
		record = *(volatile __u32 *)element;
		relay = bpf_map_lookup_elem(&relays, &record);
		if (relay && listens_to(relay, destination)) {
			recent->generation = generation;
			recent->record = record;
			return relay;
		}
	}
	return 0;
}

/* Takes so many bits, below 128, at the end of an address away. Without a branch: the verifier would go both ways at each. */
static __always_inline void take_away(struct mcr_address *address, __u32 free)
{
	__u64 shifted = ~0ULL << (free & 63), reaches_the_first_half = -(__u64)(free >> 6 & 1);
	__u64 first = shifted | ~reaches_the_first_half, last = shifted & ~reaches_the_first_half;

	address->word[0] &= bpf_htonl((__u32)(first >> 32));
	address->word[1] &= bpf_htonl((__u32)first);
	address->word[2] &= bpf_htonl((__u32)(last >> 32));
	address->word[3] &= bpf_htonl((__u32)last);
}

/* Whether a source is in the list of a relay that has one, by itself or in a prefix. */
static __always_inline int lists(const struct mcr_relay *relay, const struct mcr_address *source)
{
	struct mcr_source key = { .list = relay->source_list, .address = *source };

	/* Found, it is single, or the first of a prefix. */
	if (bpf_map_lookup_elem(&sources, &key))
		return 1;
	for (int i = 0; i < MCR_MOST_LENGTHS; i++) {
		__u32 free = relay->free_bits[i], *value;

		if (free == 0)
			return 0;
		key.address = *source;
		take_away(&key.address, free);
		value = bpf_map_lookup_elem(&sources, &key);
		/* What begins there may be a single source, or a longer prefix. */
		if (value && *value > free)
			return 1;
	}
	return 0;
}

static __always_inline void note_arrival(struct mcr_relay *relay)
{
	__u64 now = bpf_ktime_get_coarse_ns();

	if (now - relay->arrived > MCR_NOTES_EVERY)
		relay->arrived = now;
}

/* Whether a relay takes packets of a source, which are noted then. */
static __always_inline int accepts(const struct mcr_relay *relay, const struct mcr_address *source)
{
	if (relay->source_list != 0 && lists(relay, source) == !!(relay->source_list & MCR_LIST_REFUSES))
		return 0;
	if (relay->flags & MCR_NOTES_ARRIVALS)
		note_arrival((struct mcr_relay *)relay);
	return 1;
}

/* Whether a frame with this source comes from an interface that we send from. */
static __always_inline int came_back_to_us(__u32 ifindex, const __u8 *source_mac)
{
	struct mcr_own_mac key = { .ifindex = ifindex };
	__u32 zero = 0;
	struct mcr_state *now = bpf_map_lookup_elem(&state, &zero);

	if (!now || !(now->own_mac_bits >> (source_mac[5] & 63) & 1))
		return 0;
	__builtin_memcpy(key.mac, source_mac, sizeof(key.mac));
	return bpf_map_lookup_elem(&own_macs, &key) != 0;
}

/* The interface of an output; 0: it may not be sent to. */
static __always_inline __u32 interface_of(const struct mcr_output *output)
{
	__u32 port = output->port;
	__u32 *ifindex = bpf_map_lookup_elem(&ports, &port);

	return ifindex ? *ifindex : 0;
}

static __always_inline void count_dropped(void *map, __u32 slot, __u32 reason, __u32 packets)
{
	struct mcr_dropped *total = bpf_map_lookup_elem(map, &slot);

	if (total && reason < MCR_DROP_REASONS)
		__sync_fetch_and_add(&total->packets[reason], packets);
}

/* One writer at a time: the program runs with bottom halves off, and each CPU has a counter of its own. */
static __always_inline void count_received(__u32 slot, __u32 packets, __u32 bytes)
{
	__u32 index = bpf_get_smp_processor_id() * RELAY_SLOTS + slot;
	struct mcr_received *total = bpf_map_lookup_elem(&received, &index);

	if (!total)
		return;
	total->packets += packets;
	total->bytes += bytes;
	total->last_seen = bpf_ktime_get_coarse_ns();
}

static __always_inline void count_sent(__u32 slot, __u32 packets, __u32 bytes)
{
	__u32 index = bpf_get_smp_processor_id() * OUTPUT_SLOTS + slot;
	struct mcr_sent *total = bpf_map_lookup_elem(&sent, &index);

	if (!total)
		return;
	total->packets += packets;
	total->bytes += bytes;
}

#endif
