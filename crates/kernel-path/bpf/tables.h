/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The maps that all programs share: what is written by the table writer or the keeper, and what is counted. */
#ifndef MCR_TABLES_H
#define MCR_TABLES_H

#include <bpf/bpf_helpers.h>

#include "relay.h"

/* Sizes are set before loading (load.rs); these are only the least that the kernel takes. */
#define MAP(name, kind, key_type, value_type, flags) \
	struct { \
		__uint(type, kind); \
		__uint(max_entries, 1); \
		__type(key, key_type); \
		__type(value, value_type); \
		__uint(map_flags, flags); \
	} name SEC(".maps")

MAP(destinations, BPF_MAP_TYPE_HASH, struct mcr_destination, __u32, 0);
MAP(relays, BPF_MAP_TYPE_ARRAY, __u32, struct mcr_relay, 0);
MAP(outputs, BPF_MAP_TYPE_ARRAY, __u32, struct mcr_output, 0);
MAP(sources, BPF_MAP_TYPE_HASH, struct mcr_source, __u32, 0);
MAP(own_macs, BPF_MAP_TYPE_HASH, struct mcr_own_mac, __u32, 0);
MAP(watched, BPF_MAP_TYPE_HASH, struct mcr_watched, __u32, 0);
/* Interfaces that may be sent to (0: none), by the numbers that outputs name them by. Written by the keeper alone: whoever
 * writes the other tables can send to these and to no other. */
MAP(ports, BPF_MAP_TYPE_ARRAY, __u32, __u32, 0);
/* Mapped into the reader's memory: thousands of counters are read without a system call. Those "for each CPU" are laid out
 * one CPU after the other, so that no two CPUs write to one cache line. */
MAP(received, BPF_MAP_TYPE_ARRAY, __u32, struct mcr_received, BPF_F_MMAPABLE);
MAP(sent, BPF_MAP_TYPE_ARRAY, __u32, struct mcr_sent, BPF_F_MMAPABLE);
MAP(dropped, BPF_MAP_TYPE_ARRAY, __u32, struct mcr_dropped, BPF_F_MMAPABLE);
MAP(input_dropped, BPF_MAP_TYPE_ARRAY, __u32, struct mcr_dropped, BPF_F_MMAPABLE);
/* Of relays by their slot, then of outputs by theirs: those with a cap only. */
MAP(buckets, BPF_MAP_TYPE_ARRAY, __u32, struct mcr_bucket, BPF_F_MMAPABLE);
/* Mapped into the writer's memory. */
MAP(state, BPF_MAP_TYPE_ARRAY, __u32, struct mcr_state, BPF_F_MMAPABLE);

/* Slots of counters for each CPU; set before loading. */
volatile const __u32 RELAY_SLOTS = 1;
volatile const __u32 OUTPUT_SLOTS = 1;

#endif
