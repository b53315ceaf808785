/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The load: one frame again and again, in bursts at a rate. It runs in BPF_PROG_TEST_RUN on live frames
 * (BPF_F_TEST_XDP_LIVE_FRAMES), one batch of the kernel being one burst: a burst that is due is sent, another is dropped at once,
 * which is how it waits. */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

/* Ethernet, IPv4 and UDP headers, then payload; a stamp needs IPv4. The longer ones of IPv6 are within the head. */
#define HEADERS 42
#define HEAD 64
/* A burst that took longer was interrupted by another task, whose time is not the load's. */
#define INTERRUPTED_NS 1000000

struct orders {
	__u64 interval_ns;
	__u64 most_packets;
	__u64 most_ns;
	__u32 burst;
	__u32 stamped;
	__u8 head[HEAD];
};

struct progress {
	__u64 begun_ns;
	__u64 due_ns;
	__u64 last_ns;
	__u64 sent;
	/* When the last burst was over; when all was over. */
	__u64 sent_ns;
	__u64 ended_ns;
	/* Bursts that nothing interrupted: their time and their number. */
	__u64 busy_ns;
	__u64 busy_bursts;
	__u32 left;
	__u32 sending;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct orders);
} orders SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct progress);
} progress SEC(".maps");

static void begin_batch(const struct orders *orders, struct progress *progress)
{
	__u64 now = bpf_ktime_get_ns();

	if (!progress->begun_ns)
		progress->begun_ns = progress->due_ns = now;
	if (progress->sending) {
		__u64 took = now - progress->last_ns;

		progress->sent_ns = now;
		if (took < INTERRUPTED_NS) {
			progress->busy_ns += took;
			progress->busy_bursts++;
		}
	}
	progress->last_ns = now;
	progress->left = orders->burst;
	if (progress->sent >= orders->most_packets || now - progress->begun_ns >= orders->most_ns) {
		progress->sending = 0;
		if (!progress->ended_ns)
			progress->ended_ns = now;
		return;
	}
	progress->sending = now >= progress->due_ns;
	if (progress->sending)
		progress->due_ns += orders->interval_ns;
}

/* The time in the first eight bytes of payload, its complement in the next: the checksum stays right. */
static void stamp(__u8 *payload)
{
	__u64 now = bpf_ktime_get_ns();

	*(__u64 *)payload = now;
	*(__u64 *)(payload + 8) = ~now;
}

SEC("xdp")
int generate(struct xdp_md *context)
{
	const __u32 only = 0;
	const struct orders *order = bpf_map_lookup_elem(&orders, &only);
	struct progress *state = bpf_map_lookup_elem(&progress, &only);
	__u8 *frame = (__u8 *)(long)context->data;

	if (!order || !state || (long)(frame + HEAD) > (long)context->data_end)
		return XDP_ABORTED;
	if (!state->left)
		begin_batch(order, state);
	state->left--;
	if (!state->sending)
		return XDP_DROP;
	/* The kernel uses its pages again as the relay left them. */
	__builtin_memcpy(frame, order->head, HEAD);
	if (order->stamped)
		stamp(frame + HEADERS);
	state->sent++;
	return XDP_TX;
}

char _license[] SEC("license") = "Dual MIT/GPL";
