/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Counts what the kernel drops on its way to watched addresses, by reason, place and way there.
 *
 * Hangs at the raw tracepoint skb:kfree_skb (include/trace/events/skb.h), which since Linux 5.17 says why a packet is dropped.
 * Changes nothing. Kernel fields are found through BTF, so that one object serves every kernel. */
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define RELOCATED __attribute__((preserve_access_index))
#define FRAGMENT_OFFSET_MASK 0x1fff
#define PROTOCOL_UDP 17
#define STACK_FRAMES 32

struct ns_common {
	unsigned int inum;
} RELOCATED;

struct net {
	struct ns_common ns;
} RELOCATED;

typedef struct {
	struct net *net;
} RELOCATED possible_net_t;

struct net_device {
	int ifindex;
	possible_net_t nd_net;
} RELOCATED;

struct sk_buff {
	struct net_device *dev;
	int skb_iif;
	unsigned char *head;
	__u16 network_header;
} RELOCATED;

/* Of IPv6; of IPv4 mapped into it (RFC 4291 section 2.5.5.2). */
struct address {
	__be32 word[4];
};

struct ipv4 {
	__u8 version_and_words;
	__u8 traffic_class;
	__be16 total_bytes;
	__be16 identification;
	__be16 fragmentation;
	__u8 ttl;
	__u8 protocol;
	__be16 checksum;
	__be32 source;
	__be32 destination;
};

struct ipv6 {
	__be32 version_and_class;
	__be16 payload_bytes;
	__u8 next;
	__u8 hop_limit;
	struct address source;
	struct address destination;
};

/* What is counted together. Shared with src/observe/drops.rs; addresses and the port in network order, the rest in host order. */
struct kind {
	__u64 location;
	__u32 reason;
	__s32 stack;
	struct address source;
	struct address destination;
	__u32 ifindex;
	__be16 port;
	__u16 pad;
};

/* The inode of the network namespace to count in, set by the loader. */
const volatile __u32 NAMESPACE = 0;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 128);
	__type(key, struct address);
	__type(value, __u8);
} watched SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct kind);
	__type(value, __u64);
} drops SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(max_entries, 1024);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, STACK_FRAMES * sizeof(__u64));
} stacks SEC(".maps");

static __always_inline void count(const struct kind *kind)
{
	__u64 one = 1, *number = bpf_map_lookup_elem(&drops, kind);

	if (number)
		__sync_fetch_and_add(number, 1);
	else
		bpf_map_update_elem(&drops, kind, &one, BPF_NOEXIST);
}

static __always_inline struct address mapped(__be32 ipv4)
{
	return (struct address){ .word = { 0, 0, bpf_htonl(0xffff), ipv4 } };
}

static __always_inline int read_ipv4(struct kind *kind, const unsigned char *head)
{
	struct ipv4 ip;

	if (bpf_probe_read_kernel(&ip, sizeof(ip), head) || ip.version_and_words >> 4 != 4)
		return 0;
	kind->source = mapped(ip.source);
	kind->destination = mapped(ip.destination);
	if (ip.protocol == PROTOCOL_UDP && !(ip.fragmentation & bpf_htons(FRAGMENT_OFFSET_MASK)))
		bpf_probe_read_kernel(&kind->port, sizeof(kind->port), head + (ip.version_and_words & 15) * 4 + 2);
	return 1;
}

/* Behind an extension header no port is looked for. */
static __always_inline int read_ipv6(struct kind *kind, const unsigned char *head)
{
	struct ipv6 ip;

	if (bpf_probe_read_kernel(&ip, sizeof(ip), head) || bpf_ntohl(ip.version_and_class) >> 28 != 6)
		return 0;
	kind->source = ip.source;
	kind->destination = ip.destination;
	if (ip.next == PROTOCOL_UDP)
		bpf_probe_read_kernel(&kind->port, sizeof(kind->port), head + sizeof(ip) + 2);
	return 1;
}

SEC("raw_tracepoint/kfree_skb")
int mcr_drops(struct bpf_raw_tracepoint_args *ctx)
{
	struct sk_buff *skb = (struct sk_buff *)ctx->args[0];
	struct kind kind = { .location = ctx->args[1], .reason = (__u32)ctx->args[2] };
	unsigned char *head = BPF_CORE_READ(skb, head) + BPF_CORE_READ(skb, network_header);

	if (!read_ipv4(&kind, head) && !read_ipv6(&kind, head))
		return 0;
	if (!bpf_map_lookup_elem(&watched, &kind.destination))
		return 0;

	/* In a socket's queue the field of the device holds something else: nothing can be read there. */
	struct net_device *device = BPF_CORE_READ(skb, dev);
	unsigned int namespace = BPF_CORE_READ(device, nd_net.net, ns.inum);
	if (namespace && namespace != NAMESPACE)
		return 0;
	kind.ifindex = namespace ? BPF_CORE_READ(device, ifindex) : BPF_CORE_READ(skb, skb_iif);

	kind.stack = bpf_get_stackid(ctx, &stacks, 0);
	count(&kind);
	return 0;
}

char _license[] SEC("license") = "Dual MIT/GPL";
