/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The limit of what can be done in XDP: frames go on as they came. */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

const volatile __u32 output = 0;

/* Made with exactly as many entries as there are outputs: broadcast visits each. */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} outputs SEC(".maps");

SEC("xdp")
int to_one(struct xdp_md *context)
{
	return bpf_redirect(output, 0);
}

SEC("xdp")
int to_all(struct xdp_md *context)
{
	return bpf_redirect_map(&outputs, 0, BPF_F_BROADCAST);
}

char _license[] SEC("license") = "Dual MIT/GPL";
