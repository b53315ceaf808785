/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Sums over what is in a frame at tcx ingress. */
#ifndef MCR_SUMS_H
#define MCR_SUMS_H

#include "rewrite.h"
#include "tables.h"

/* How far the verifier lets packet memory be reached by a variable offset, in a power of two (MAX_PACKET_OFF). */
#define MOST_DIRECT 0x7fff

struct scratch {
	__u8 bytes[CHUNK_BYTES + 4];
};
MAP(scratch, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct scratch, 0);

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

#endif
