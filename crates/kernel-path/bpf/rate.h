/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Caps on rates: the twin of rate.rs in mcr-wire. */
#ifndef MCR_RATE_H
#define MCR_RATE_H

#include "tables.h"

#define TICKS 64
#define FINER 14
#define TOLERANCE (100000000ULL * TICKS)

static __always_inline void charge(__u64 *until, __u64 now, __u64 cost)
{
	__u64 before = *(volatile __u64 *)until;

	/* If it fails, another CPU has done it. */
	if (before < now)
		__sync_val_compare_and_swap(until, before, now);
	__sync_fetch_and_add(until, cost);
}

/* Whether these packets may pass; if so they are charged. No CPU waits for another. */
static __noinline int admits(__u32 number, const struct mcr_cap *cap, __u32 packets, __u32 bytes)
{
	__u64 now = bpf_ktime_get_coarse_ns() * TICKS;
	struct mcr_bucket *bucket = bpf_map_lookup_elem(&buckets, &number);

	if (!bucket || !cap)
		return 1;
	if ((cap->packet_cost && *(volatile __u64 *)&bucket->packets > now + TOLERANCE) ||
	    (cap->byte_cost && *(volatile __u64 *)&bucket->bytes > now + TOLERANCE))
		return 0;
	charge(&bucket->packets, now, cap->packet_cost * packets);
	charge(&bucket->bytes, now, cap->byte_cost * bytes >> FINER);
	return 1;
}

static __always_inline int is_capped(const struct mcr_cap *cap)
{
	return (cap->packet_cost | cap->byte_cost) != 0;
}

#endif
