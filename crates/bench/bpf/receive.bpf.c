/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The cheapest receivers there are: what arrives is counted and dropped. */
#include <linux/bpf.h>
#include <linux/types.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define PROTOCOL_UDP 17
#define TC_ACT_SHOT 2

/* From 0 on, in steps; the last takes all that is later. */
#define LATENCIES 100000
#define LATENCY_STEP_NS 100

struct datagram {
	__u8 macs[12];
	__be16 ethertype;
	__u8 version_and_words;
	__u8 traffic_class;
	__be16 total_bytes;
	__be32 identification_and_fragmentation;
	__u8 ttl;
	__u8 protocol;
	__be16 checksum;
	__u8 addresses[8];
	__be16 ports[2];
	__be16 length;
	__be16 udp_checksum;
	__u64 stamp;
} __attribute__((packed));
_Static_assert(sizeof(struct datagram) == 50, "no holes");

/* The same of IPv6, without a stamp: latency is told of IPv4. */
struct datagram6 {
	__u8 macs[12];
	__be16 ethertype;
	__be32 version_and_class;
	__be16 payload_bytes;
	__u8 next;
	__u8 hop_limit;
	__u8 addresses[32];
	__be16 ports[2];
	__be16 length;
	__be16 udp_checksum;
} __attribute__((packed));
_Static_assert(sizeof(struct datagram6) == 62, "no holes");

/* The ports that the load may arrive at. */
const volatile __u16 port_as_sent = 0;
const volatile __u16 port_as_relayed = 0;

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} received SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, LATENCIES);
	__type(key, __u32);
	__type(value, __u64);
} latencies SEC(".maps");

static void count(__u32 packets)
{
	const __u32 only = 0;
	__u64 *total = bpf_map_lookup_elem(&received, &only);

	if (total)
		*total += packets;
}

static int is_port_of_the_load(__be16 destination)
{
	__u16 port = bpf_ntohs(destination);

	return port == port_as_sent || port == port_as_relayed;
}

static int is_of_the_load(const struct datagram *datagram)
{
	return datagram->ethertype == bpf_htons(0x0800) && datagram->protocol == PROTOCOL_UDP &&
	       is_port_of_the_load(datagram->ports[1]);
}

static int is_of_the_load6(const struct datagram6 *datagram)
{
	return datagram->ethertype == bpf_htons(0x86dd) && datagram->next == PROTOCOL_UDP &&
	       is_port_of_the_load(datagram->ports[1]);
}

static void time_since(__u64 stamp)
{
	__u64 step = (bpf_ktime_get_ns() - stamp) / LATENCY_STEP_NS;
	__u32 index = step < LATENCIES ? step : LATENCIES - 1;
	__u64 *number = bpf_map_lookup_elem(&latencies, &index);

	if (number)
		__sync_fetch_and_add(number, 1);
}

SEC("xdp")
int receive(struct xdp_md *context)
{
	const struct datagram *datagram = (void *)(long)context->data;
	const struct datagram6 *datagram6 = (void *)(long)context->data;

	if ((long)(datagram6 + 1) <= (long)context->data_end && is_of_the_load6(datagram6)) {
		count(1);
		return XDP_DROP;
	}
	if ((long)(datagram + 1) > (long)context->data_end || !is_of_the_load(datagram))
		return XDP_PASS;
	count(1);
	if (datagram->stamp)
		time_since(datagram->stamp);
	return XDP_DROP;
}

/* Filters a packet socket and lets nothing through. A super-frame (what a veth hands over uncut while its peer segments "in hardware")
 * counts as its segments. Of IPv4: nothing else is gathered here. */
SEC("socket")
int count_segments(struct __sk_buff *frame)
{
	__u32 packets = 1, segment = frame->gso_size;
	struct datagram datagram;

	if (bpf_skb_load_bytes(frame, 0, &datagram, sizeof(datagram)) || !is_of_the_load(&datagram))
		return 0;
	if (segment)
		packets = (frame->len - (sizeof(datagram) - sizeof(datagram.stamp)) + segment - 1) / segment;
	count(packets);
	return 0;
}

/* Of frames that are socket buffers already: XDP would have to turn them into something else first. */
SEC("classifier")
int shoot(struct __sk_buff *frame)
{
	return TC_ACT_SHOT;
}

char _license[] SEC("license") = "Dual MIT/GPL";
