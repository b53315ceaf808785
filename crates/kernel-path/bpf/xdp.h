/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The relay at the driver.
 *
 *   frame -> mcr_xdp: judge, find -> port, or a copy to each of a fan-out -> mcr_egress: dress -> mcr_flushed: counted
 *
 * It takes only what is sure to be sent: whole, plain UDP in one buffer, to a group, with right checksums, of a relay with an
 * exit, and neither too big nor with too small a TTL for any of its outputs. Everything else goes on to tcx ingress, whose
 * program has the same tables and gives the verdict; so there is one semantics, and a relay moves between the two with one word
 * in `destinations`. What XDP is not told:
 * - whether a checksum is left to be completed; it is where its value is the sum of the pseudo header, and is completed then;
 * - a tag that the device took out of the frame; the loader sees to it that devices do not, veth excepted, where a tag is
 *   taken out only if the peer's host left its insertion to the device.
 *
 * All that is sent passes mcr_egress, frames with one output too: the kernel uses the program of a batch's first frame for
 * the whole batch (kernel/bpf/devmap.c: bq_enqueue). The kernel tells after each batch how many of its frames the driver took,
 * from the first on, and only then are they counted.
 */
#ifndef MCR_XDP_H
#define MCR_XDP_H

#include "families.h"
#include "lookup.h"
#include "rewrite.h"

/* Interfaces by port number, as `ports`, and lists of them. Written by the keeper alone. */
MAP(exits, BPF_MAP_TYPE_DEVMAP, __u32, struct bpf_devmap_val, 0);
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(
		values, struct {
			__uint(type, BPF_MAP_TYPE_DEVMAP);
			__uint(max_entries, 1);
			__type(key, __u32);
			__type(value, struct bpf_devmap_val);
		});
} fan_outs SEC(".maps");

/*
 * What a frame carries from mcr_xdp to mcr_egress, in place of its MAC addresses. The mark is where a source address has its
 * group bit, which is never set in one.
 */
struct crossing {
	__u32 first;    /* record of the relay's first output; a port in a probe */
	__u16 priority; /* upper four bits of the tag that came; the others: of the tables' generation, where copies take turns */
	__u8 mark;      /* enum mark */
	__u8 exit;      /* enum mcr_exit */
	__u32 number;   /* of the frame, by the relay's count for this CPU */
};
_Static_assert(sizeof(struct crossing) == MAC_BYTES, "in place of the MAC addresses");

enum mark {
	MARK_RELAY = 1,
	MARK_PROBE = 3,
};

/* Frames of one batch (DEV_MAP_BULK_SIZE). */
#define BATCH 16
/* In place of a slot: it is a probe. */
#define PROBE 0xffffffff

/* What is on its way to a driver: from the first run of mcr_egress for a batch to mcr_flushed, nothing else runs on the CPU. */
struct flight {
	__u32 frames;
	struct {
		__u32 slot; /* of the output's counters */
		__u32 bytes;
		__u32 number; /* of the crossing */
	} frame[BATCH];
};
MAP(flight, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct flight, 0);

/* Which output had the last copy of a frame, for interfaces that several outputs share; copies come in the outputs' order. */
struct turn {
	__u32 first;
	__u32 number;
	__u32 generation; /* records and numbers are used again */
	__u32 next; /* record */
};
MAP(turns, BPF_MAP_TYPE_LRU_PERCPU_HASH, __u32, struct turn, 0);

/* Probes that a driver took. */
MAP(probes, BPF_MAP_TYPE_ARRAY, __u32, __u64, 0);

/* Of all headers in front of UDP, as a mask. */
#define MOST_HEADER_BYTES 0x7f

#define SUM_PIECE(size) \
	if (bytes & (size)) { \
		if (at + (size) > end) \
			return 0; \
		sum = bpf_csum_diff(0, 0, at, size, sum); \
		at += (size); \
	}

/* The sum over `bytes` bytes of the frame from `from` on, and `sum`; 0, which is never right, when they are more than there are. */
__noinline int sum_of_bytes(struct xdp_md *ctx, __u32 from, __u32 bytes, __u32 sum)
{
	void *at = (void *)(long)ctx->data + (from & MOST_HEADER_BYTES), *end = (void *)(long)ctx->data_end;
	__u64 total;

	for (int chunk = 0; chunk < 8; chunk++) {
		if (bytes < CHUNK_BYTES)
			break;
		if (at + CHUNK_BYTES > end)
			return 0;
		sum = bpf_csum_diff(0, 0, at, CHUNK_BYTES, sum);
		at += CHUNK_BYTES;
		bytes -= CHUNK_BYTES;
	}
	if (bytes >= CHUNK_BYTES)
		return 0;
	SUM_PIECE(256)
	SUM_PIECE(128)
	SUM_PIECE(64)
	SUM_PIECE(32)
	SUM_PIECE(16)
	total = sum;
	for (int word = 0; word < 3; word++) {
		if ((bytes & 15) < 4)
			break;
		if (at + 4 > end)
			return 0;
		total += *(__u32 *)at;
		at += 4;
		bytes -= 4;
	}
	if (bytes & 2) {
		if (at + 2 > end)
			return 0;
		total += *(__u16 *)at;
		at += 2;
	}
	if (bytes & 1) {
		if (at + 1 > end)
			return 0;
		total += *(__u8 *)at;
	}
	return fold(total);
}

/* A frame at hand. */
struct arrival {
	struct mcr_destination destination;
	struct mcr_address source;
	struct udp *udp;
	__u32 total;  /* bytes of the IP packet */
	__u64 pseudo; /* sum of its pseudo header */
	__u8 ttl;
	__u8 is_ipv6;
};

/* The checksum that the datagram is to have, 0 if it has none; false: it has a wrong one. */
static __always_inline int right_checksum(struct xdp_md *ctx, const struct arrival *arrival, __be16 *checksum)
{
	const struct udp *udp = arrival->udp;
	__u16 sum, there = udp->checksum;

	*checksum = there;
	if (there == 0)
		return !arrival->is_ipv6;
	sum = sum_of_bytes(ctx, (void *)udp - (void *)(long)ctx->data, bpf_ntohs(udp->length), fold(arrival->pseudo));
	if (sum == 0xffff)
		return 1;
	if (sum == 0 || there != fold(arrival->pseudo))
		return 0;
	sum = ~fold((__u64)sum + (__u16)~there);
	*checksum = sum ? sum : 0xffff;
	return 1;
}

static __always_inline int redirect(__u32 exit)
{
	__u32 number = exit & MCR_EXIT_NUMBER;
	void *fan_out;

	if (exit >> 24 == MCR_EXIT_PORT)
		return bpf_redirect_map(&exits, number, XDP_PASS);
	fan_out = bpf_map_lookup_elem(&fan_outs, &number);
	return fan_out ? bpf_redirect_map(fan_out, 0, BPF_F_BROADCAST | XDP_PASS) : XDP_PASS;
}

/* Takes padding and tag off. */
static __always_inline long lay_bare(struct xdp_md *ctx, __u32 padding, __u32 tag_bytes)
{
	if (padding && bpf_xdp_adjust_tail(ctx, -(int)padding))
		return -1;
	return tag_bytes ? bpf_xdp_adjust_head(ctx, tag_bytes) : 0;
}

/* Counts a frame as received and about to cross; its number, never 0. */
static __always_inline __u32 count_crossing(__u32 slot, __u32 bytes)
{
	__u32 index = bpf_get_smp_processor_id() * RELAY_SLOTS + slot;
	struct mcr_received *total = bpf_map_lookup_elem(&received, &index);

	if (!total)
		return 1;
	total->packets++;
	total->bytes += bytes;
	total->last_seen = bpf_ktime_get_coarse_ns();
	if ((__u32)++total->crossings == 0)
		total->crossings++;
	return total->crossings;
}

/* As many bits of the tables' generation as a crossing has room for. */
static __always_inline __u16 generation_of_tables(void)
{
	__u32 zero = 0;
	struct mcr_state *now = bpf_map_lookup_elem(&state, &zero);

	return now ? *(volatile __u64 *)&now->generation & VLAN_NUMBER : 0;
}

/* Reads a datagram without options to a group; false: it is none. */
static __always_inline int read_plain_ipv4(struct arrival *arrival, const struct ipv4 *ip, void *end)
{
	struct udp *udp = (void *)(ip + 1);

	if ((void *)(udp + 1) > end)
		return 0;
	arrival->udp = udp;
	arrival->total = bpf_ntohs(ip->total_bytes);
	arrival->ttl = ip->ttl;
	arrival->destination.address.word[0] = ip->destination;
	arrival->source.word[0] = ip->source;
	arrival->pseudo = sum_of_pseudo_header(ip->source, ip->destination, udp->length);
	return ip->version_and_words == 0x45 && ip->protocol == PROTOCOL_UDP &&
	       !(ip->fragmentation & bpf_htons(FRAGMENT_MASK)) &&
	       (ip->destination & bpf_htonl(0xf0000000)) == bpf_htonl(0xe0000000) &&
	       arrival->total >= IPV4_BYTES + UDP_BYTES && bpf_ntohs(udp->length) == arrival->total - IPV4_BYTES;
}

/* The same of IPv6, without extension headers. */
static __always_inline int read_plain_ipv6(struct arrival *arrival, const struct ipv6 *ip, void *end)
{
	struct udp *udp = (void *)(ip + 1);

	if ((void *)(udp + 1) > end)
		return 0;
	arrival->udp = udp;
	arrival->total = IPV6_BYTES + bpf_ntohs(ip->payload_bytes);
	arrival->ttl = ip->hop_limit;
	arrival->is_ipv6 = 1;
	for (int word = 0; word < 4; word++) {
		arrival->destination.address.word[word] = ip->destination[word];
		arrival->source.word[word] = ip->source[word];
	}
	arrival->destination.vlan |= MCR_KEY_IPV6;
	arrival->pseudo = sum_of_pseudo_header6(ip, udp->length);
	return (ip->first & bpf_htonl(IPV6_VERSION_MASK)) == bpf_htonl(IPV6_VERSION) && ip->next == PROTOCOL_UDP &&
	       (ip->destination[0] & bpf_htonl(0xff000000)) == bpf_htonl(0xff000000) &&
	       arrival->total >= IPV6_BYTES + UDP_BYTES && udp->length == ip->payload_bytes;
}

/* The UDP header of a frame without a tag; null: it is not there. */
static __always_inline struct udp *udp_of(void *data, void *end, int is_ipv6)
{
	if (is_ipv6)
		return data + HEADERS6_BYTES > end ? 0 : data + ETHERNET_BYTES + IPV6_BYTES;
	return data + HEADERS_BYTES > end ? 0 : data + ETHERNET_BYTES + IPV4_BYTES;
}

SEC("xdp")
int mcr_xdp(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct arrival arrival = { .destination.ifindex = ctx->ingress_ifindex };
	struct crossing crossing = { .mark = MARK_RELAY };
	void *ip = data + ETHERNET_BYTES;
	__u32 there, tag_bytes = 0;
	struct mcr_relay *relay;
	__be16 ethertype, checksum;
	struct udp *udp;
	__u16 tag;

	if (data + HEADERS_BYTES > end)
		return XDP_PASS;
	ethertype = *(__be16 *)(data + MAC_BYTES);
	if (is_tag(ethertype)) {
		tag = bpf_ntohs(*(__be16 *)ip);
		ethertype = *((__be16 *)ip + 1);
		crossing.priority = tag & VLAN_PRIORITY;
		arrival.destination.vlan = tag & VLAN_NUMBER;
		tag_bytes = TAG_BYTES;
		ip = data + ETHERNET_BYTES + TAG_BYTES;
		if (arrival.destination.vlan == VLAN_NUMBER)
			return XDP_PASS;
		if (is_tag(ethertype)) {
			tag = bpf_ntohs(*(__be16 *)ip);
			ethertype = *((__be16 *)ip + 1);
			arrival.destination.outer_vlan = arrival.destination.vlan;
			arrival.destination.vlan = tag & VLAN_NUMBER;
			tag_bytes = 2 * TAG_BYTES;
			ip = data + ETHERNET_BYTES + 2 * TAG_BYTES;
			if (arrival.destination.outer_vlan == 0 || arrival.destination.vlan == 0 ||
			    arrival.destination.vlan == VLAN_NUMBER)
				return XDP_PASS;
		}
	}
	if (ethertype == bpf_htons(ETHERTYPE_IPV4)) {
		if (!read_plain_ipv4(&arrival, ip, end))
			return XDP_PASS;
	} else if (ethertype != bpf_htons(ETHERTYPE_IPV6) || !read_plain_ipv6(&arrival, ip, end)) {
		return XDP_PASS;
	}
	there = end - ip;
	arrival.destination.port = arrival.udp->destination;
	if (arrival.total > there)
		return XDP_PASS;
	relay = find(&arrival.destination);
	if (!relay || relay->exit >> 24 == MCR_EXIT_TCX || arrival.total > relay->mtu || arrival.ttl < relay->least_ttl ||
	    !accepts(relay, &arrival.source) || came_back_to_us(arrival.destination.ifindex, data + 6) ||
	    (!arrival.is_ipv6 && fold(sum_of_ip(ip)) != 0xffff) || !right_checksum(ctx, &arrival, &checksum) ||
	    /* Only the copies that leave as IPv6 are to get one. */
	    (checksum == 0 && relay->flags & MCR_NEEDS_CHECKSUM))
		return XDP_PASS;
	if (redirect(relay->exit) != XDP_REDIRECT || lay_bare(ctx, there - arrival.total, tag_bytes))
		return XDP_PASS;

	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	udp = udp_of(data, end, arrival.is_ipv6);
	if (!udp)
		return XDP_DROP; /* never: it was there a moment ago */
	udp->checksum = checksum;
	*(__be16 *)(data + MAC_BYTES) = ethertype;
	crossing.first = relay->first_output;
	crossing.exit = relay->exit >> 24;
	if (crossing.exit == MCR_EXIT_FAN_OUT_REPEATED)
		crossing.priority |= generation_of_tables();
	crossing.number = count_crossing(relay->slot, arrival.total);
	*(struct crossing *)data = crossing;
	return XDP_REDIRECT;
}

/* The output that an interface's copy is for; 0: none, which is when its port was closed a moment ago. */
static __always_inline __u32 output_of(__u32 ifindex, const struct crossing *crossing)
{
	__u32 record = crossing->first, generation = crossing->priority & VLAN_NUMBER;
	struct turn *turn, begun = { .first = crossing->first, .number = crossing->number, .generation = generation };
	struct mcr_output *output = 0;

	if (crossing->exit == MCR_EXIT_PORT)
		return record;
	if (crossing->exit == MCR_EXIT_FAN_OUT_REPEATED) {
		turn = bpf_map_lookup_elem(&turns, &ifindex);
		if (turn && turn->first == crossing->first && turn->number == crossing->number &&
		    turn->generation == generation)
			record = turn->next;
	}
	for (int step = 0; step < MCR_MOST_OUTPUTS; step++) {
		output = bpf_map_lookup_elem(&outputs, &record);
		if (record == 0 || !output)
			return 0;
		if (interface_of(output) == ifindex)
			break;
		record = output->next;
	}
	if (!output)
		return 0;
	if (crossing->exit == MCR_EXIT_FAN_OUT_REPEATED) {
		begun.next = output->next;
		bpf_map_update_elem(&turns, &ifindex, &begun, 0);
	}
	return record;
}

/* Notes a frame that is handed to the driver; false: there is no room, which a kernel with larger batches would make true. */
static __always_inline int board(__u32 slot, __u32 bytes, __u32 number)
{
	__u32 zero = 0;
	struct flight *now = bpf_map_lookup_elem(&flight, &zero);
	__u32 place;

	if (!now || now->frames >= BATCH)
		return 0;
	place = now->frames++ & (BATCH - 1);
	now->frame[place].slot = slot;
	now->frame[place].bytes = bytes;
	now->frame[place].number = number;
	return 1;
}

/* Writes both MAC addresses. The kernel aligns neither frames nor fields of them, and the machines that we run on need not. */
static __always_inline void address(void *data, const struct mcr_output *output)
{
	const void *macs = output->destination_mac;

	*(__u64 *)data = *(const __u64 *)macs;
	*(__u32 *)(data + 8) = *(const __u32 *)(macs + 8);
}

/* Writes the headers of a copy where IPv6 comes or leaves; its bytes, or 0. What was its payload stays. */
static __noinline __u32 dress_either_family(struct xdp_md *ctx, const struct mcr_output *output)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct known_sum known = { .state = CHECKSUM_NONE };
	struct fields fields;
	int was_ipv6, is_ipv6;

	if (data + HEADERS_BYTES > end)
		return 0;
	was_ipv6 = *(__be16 *)(data + MAC_BYTES) == bpf_htons(ETHERTYPE_IPV6);
	is_ipv6 = output->flags & MCR_OUTPUT_IPV6 ? 1 : 0;
	if (was_ipv6) {
		if (data + HEADERS6_BYTES > end)
			return 0;
		read_ipv6_fields(&fields, data + ETHERNET_BYTES, data + ETHERNET_BYTES + IPV6_BYTES);
	} else {
		read_ipv4_fields(&fields, data + ETHERNET_BYTES, data + ETHERNET_BYTES + IPV4_BYTES);
	}
	if (was_ipv6 != is_ipv6 && bpf_xdp_adjust_head(ctx, is_ipv6 ? IPV4_BYTES - IPV6_BYTES : IPV6_BYTES - IPV4_BYTES))
		return 0;
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (is_ipv6) {
		if (data + HEADERS6_BYTES > end)
			return 0;
		*(__be16 *)(data + MAC_BYTES) = bpf_htons(ETHERTYPE_IPV6);
		put_ipv6(data + ETHERNET_BYTES, data + ETHERNET_BYTES + IPV6_BYTES, &fields, output, &known);
		return IPV6_BYTES + bpf_ntohs(fields.udp_bytes);
	}
	if (data + HEADERS_BYTES > end)
		return 0;
	*(__be16 *)(data + MAC_BYTES) = bpf_htons(ETHERTYPE_IPV4);
	put_ipv4(data + ETHERNET_BYTES, data + ETHERNET_BYTES + IPV4_BYTES, &fields, output, &known);
	return IPV4_BYTES + bpf_ntohs(fields.udp_bytes);
}

/* Writes the headers of a copy but for the Ethernet header; its bytes, or 0. */
static __always_inline __u32 dress_packet(struct xdp_md *ctx, const struct mcr_output *output)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ipv4 *ip = data + ETHERNET_BYTES;
	struct udp *udp;

	if (data + HEADERS_BYTES > end)
		return 0;
	if (output->flags & MCR_OUTPUT_IPV6 || *(__be16 *)(data + MAC_BYTES) == bpf_htons(ETHERTYPE_IPV6))
		return dress_either_family(ctx, output);
	udp = data + ETHERNET_BYTES + IPV4_BYTES;
	rewrite(ip, udp, udp->length, CHECKSUM_NONE, output);
	return bpf_ntohs(ip->total_bytes);
}

/* Makes the frame that of an output; the bytes of its packet, or 0. */
static __always_inline __u32 dress_copy(struct xdp_md *ctx, const struct mcr_output *output, __u16 priority)
{
	int tag_bytes = !output->vlan ? 0 : output->outer_vlan ? 2 * TAG_BYTES : TAG_BYTES;
	__u32 bytes = dress_packet(ctx, output);
	void *data, *end;
	__be16 *tag;

	if (bytes == 0 || (tag_bytes && bpf_xdp_adjust_head(ctx, -tag_bytes)))
		return 0;
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (data + ETHERNET_BYTES + 2 * TAG_BYTES > end)
		return 0;
	address(data, output);
	tag = data + MAC_BYTES;
	if (output->outer_vlan) {
		*tag++ = bpf_htons(TPID_8021AD);
		*tag++ = bpf_htons(tag_of(output, output->outer_vlan, priority));
	}
	if (output->vlan) {
		*tag++ = bpf_htons(TPID_8021Q);
		*tag++ = bpf_htons(tag_of(output, output->vlan, priority));
	}
	return bytes;
}

/* A probe has the addresses that it is to leave with in its payload. */
static __always_inline int send_probe(void *data, void *end)
{
	if (data + ETHERNET_BYTES + MAC_BYTES > end || !board(PROBE, 0, 0))
		return XDP_DROP;
	__builtin_memcpy(data, data + ETHERNET_BYTES, MAC_BYTES);
	return XDP_PASS;
}

SEC("xdp/devmap")
int mcr_egress(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct mcr_output *output;
	struct crossing crossing;
	__u32 record, bytes;

	if (data + HEADERS_BYTES > end)
		return XDP_DROP;
	crossing = *(struct crossing *)data;
	if (crossing.mark == MARK_PROBE)
		return send_probe(data, end);
	if (crossing.mark != MARK_RELAY)
		return XDP_DROP; /* never: nobody else sends through our maps */
	record = output_of(ctx->egress_ifindex, &crossing);
	output = bpf_map_lookup_elem(&outputs, &record);
	if (record == 0 || !output)
		return XDP_DROP; /* counted with the next copy, as missed */
	bytes = dress_copy(ctx, output, crossing.priority & VLAN_PRIORITY);
	if (bytes == 0 || !board(output->slot, bytes, crossing.number))
		return XDP_DROP; /* the same */
	return XDP_PASS;
}

/* Why a driver left frames of a batch. */
static __always_inline __u32 reason_of_driver(int error)
{
	switch (error) {
	case 0:
		return MCR_DROP_OUTPUT_QUEUE_FULL;
	case -100 /* ENETDOWN */:
		return MCR_DROP_OUTPUT_DOWN;
	default:
		return MCR_DROP_SEND_FAILED;
	}
}

/*
 * Counts a copy, and those between it and the last that came to its output on this CPU: the kernel had no memory for them, or
 * the interface was down.
 */
static __always_inline void count_copy(__u32 slot, __u32 bytes, __u32 number, int is_taken, __u32 reason)
{
	__u32 index = bpf_get_smp_processor_id() * OUTPUT_SLOTS + slot;
	struct mcr_sent *total = bpf_map_lookup_elem(&sent, &index);
	__u32 last, gap;

	if (!total)
		return;
	last = total->crossing;
	total->crossing = number;
	/* Numbers wrap, and none is 0. */
	gap = number - last - 1 - (number < last);
	if (gap != 0 && gap < 1U << 31)
		count_dropped(&dropped, slot, MCR_DROP_SEND_FAILED, gap);
	if (!is_taken) {
		count_dropped(&dropped, slot, reason, 1);
		return;
	}
	total->packets++;
	total->bytes += bytes;
}

static __always_inline void count_probe(void)
{
	__u32 zero = 0;
	__u64 *total = bpf_map_lookup_elem(&probes, &zero);

	if (total)
		__sync_fetch_and_add(total, 1);
}

/* After each batch: (from, to, frames that the driver took, frames that it did not or mcr_egress dropped, error). */
SEC("raw_tp/xdp_devmap_xmit")
int mcr_flushed(struct bpf_raw_tracepoint_args *ctx)
{
	__u32 zero = 0, taken = ctx->args[2], reason = reason_of_driver(ctx->args[4]);
	struct flight *now = bpf_map_lookup_elem(&flight, &zero);

	if (!now)
		return 0;
	for (__u32 place = 0; place < BATCH; place++) {
		__u32 slot = now->frame[place].slot;
		/* Compared as a difference: the verifier would learn of `taken` itself, and walk the rest for each number. */
		int is_taken = (__s32)(place - taken) < 0;

		if (place >= now->frames)
			break;
		if (slot != PROBE)
			count_copy(slot, now->frame[place].bytes, now->frame[place].number, is_taken, reason);
		else if (is_taken)
			count_probe();
	}
	now->frames = 0;
	return 0;
}

/* Sends a probe to the port that it names: is it delivered? */
SEC("xdp")
int mcr_probe(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;

	if (data + MAC_BYTES > end)
		return XDP_DROP;
	return bpf_redirect_map(&exits, ((struct crossing *)data)->first, XDP_DROP);
}

#endif
