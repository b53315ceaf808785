/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The headers of a copy where IPv6 comes, leaves, or both: the twin of Rewrite::emit in mcr-wire. */
#ifndef MCR_FAMILIES_H
#define MCR_FAMILIES_H

#include <bpf/bpf_endian.h>

#include "headers.h"
#include "relay.h"
#include "rewrite.h"

/* What of a datagram goes into the headers of its copies, whatever family each is of. */
struct fields {
	__u64 ends;           /* sum of its addresses and ports */
	__u32 traffic_class;
	__u32 flow_label;
	__be16 identification;
	__be16 fragmentation; /* DONT_FRAGMENT, or nothing */
	__be16 source_port;
	__be16 udp_bytes;
	__be16 checksum;
	__u8 ttl;
};

/* What is known of the checksum of a datagram. */
struct known_sum {
	enum checksum_state state;
	__u32 payload; /* the sum over the payload, where there is no checksum and there has to be one */
};

static __always_inline __u64 sum_of_words(const __be32 *word)
{
	return (__u64)word[0] + word[1] + word[2] + word[3];
}

static __always_inline __u64 sum_of_pseudo_header6(const struct ipv6 *ip, __be16 udp_bytes)
{
	return sum_of_words(ip->source) + sum_of_words(ip->destination) + bpf_htons(PROTOCOL_UDP) + udp_bytes;
}

static __always_inline void read_ipv4_fields(struct fields *fields, const struct ipv4 *ip, const struct udp *udp)
{
	fields->ends = sum_of_ends(ip, udp);
	fields->traffic_class = ip->traffic_class;
	fields->flow_label = 0;
	fields->identification = ip->identification;
	fields->fragmentation = ip->fragmentation & bpf_htons(DONT_FRAGMENT);
	fields->source_port = udp->source;
	fields->udp_bytes = bpf_htons(bpf_ntohs(ip->total_bytes) - IPV4_BYTES);
	fields->checksum = udp->checksum;
	fields->ttl = ip->ttl;
}

static __always_inline void read_ipv6_fields(struct fields *fields, const struct ipv6 *ip, const struct udp *udp)
{
	__u32 first = bpf_ntohl(ip->first);

	fields->ends = sum_of_words(ip->source) + sum_of_words(ip->destination) + udp->source + udp->destination;
	fields->traffic_class = first >> 20 & 0xff;
	fields->flow_label = first & IPV6_LABEL_MASK;
	fields->identification = 0;
	fields->fragmentation = bpf_htons(DONT_FRAGMENT);
	fields->source_port = udp->source;
	fields->udp_bytes = ip->payload_bytes;
	fields->checksum = udp->checksum;
	fields->ttl = ip->hop_limit;
}

static __always_inline __u32 traffic_class_of(const struct mcr_output *output, const struct fields *fields)
{
	__u32 class = fields->traffic_class;

	return (dscp_of(output, class >> 2) & 0x3f) << 2 | (class & 3);
}

static __always_inline __u8 ttl_of(const struct mcr_output *output, const struct fields *fields)
{
	return (fields->ttl & output->ttl_mask) + output->ttl;
}

/* Writes the UDP header of a copy whose addresses have this sum. */
static __always_inline void put_udp(struct udp *udp, const struct fields *fields, const struct mcr_output *output,
				    __u64 addresses, const struct known_sum *known)
{
	__be16 source = output->flags & MCR_SET_SOURCE_PORT ? output->source_port : fields->source_port;
	__u64 pseudo = addresses + bpf_htons(PROTOCOL_UDP) + fields->udp_bytes;
	__u64 ports = (__u64)source + output->destination_port;
	__be16 checksum = 0;

	if (known->state == CHECKSUM_PARTIAL) {
		checksum = fold(pseudo);
	} else if (fields->checksum != 0) {
		checksum = updated_checksum(fields->checksum, fields->ends, addresses + ports);
	} else if (output->flags & MCR_OUTPUT_IPV6) {
		checksum = ~fold(pseudo + ports + fields->udp_bytes + known->payload);
		checksum = checksum ? checksum : 0xffff;
	}
	udp->source = source;
	udp->destination = output->destination_port;
	udp->length = fields->udp_bytes;
	udp->checksum = checksum;
}

/* Writes the headers of a copy that leaves as IPv6. A kept source is where it was, which only IPv6 has. */
static __always_inline void put_ipv6(struct ipv6 *ip, struct udp *udp, const struct fields *fields,
				     const struct mcr_output *output, const struct known_sum *known)
{
	ip->first = bpf_htonl(IPV6_VERSION | traffic_class_of(output, fields) << 20 | fields->flow_label);
	ip->payload_bytes = fields->udp_bytes;
	ip->next = PROTOCOL_UDP;
	ip->hop_limit = ttl_of(output, fields);
	if (!(output->flags & MCR_KEEP_SOURCE)) {
		ip->source[0] = output->source.word[0];
		ip->source[1] = output->source.word[1];
		ip->source[2] = output->source.word[2];
		ip->source[3] = output->source.word[3];
	}
	ip->destination[0] = output->destination.word[0];
	ip->destination[1] = output->destination.word[1];
	ip->destination[2] = output->destination.word[2];
	ip->destination[3] = output->destination.word[3];
	put_udp(udp, fields, output, sum_of_words(ip->source) + sum_of_words(ip->destination), known);
}

/* Writes the headers of a copy that came as IPv6 and leaves as IPv4. */
static __always_inline void put_ipv4(struct ipv4 *ip, struct udp *udp, const struct fields *fields,
				     const struct mcr_output *output, const struct known_sum *known)
{
	__be32 source = output->source.word[0], destination = output->destination.word[0];

	ip->version_and_words = 0x45;
	ip->traffic_class = traffic_class_of(output, fields);
	ip->total_bytes = bpf_htons(bpf_ntohs(fields->udp_bytes) + IPV4_BYTES);
	ip->identification = fields->identification;
	ip->fragmentation = fields->fragmentation;
	ip->ttl = ttl_of(output, fields);
	ip->protocol = PROTOCOL_UDP;
	ip->checksum = 0;
	ip->source = source;
	ip->destination = destination;
	ip->checksum = ~fold(sum_of_ip(ip));
	put_udp(udp, fields, output, sum_of_addresses(source, destination), known);
}

#endif
