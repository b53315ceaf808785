/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Reading a frame at tcx ingress as far as the ports: verdicts 1 to 5 of the table in mcr-wire (frame.rs). */
#ifndef MCR_READ_H
#define MCR_READ_H

#include "fragments.h"
#include "packet.h"
#include "sums.h"

enum readable {
	NOT_OURS,
	UNREADABLE, /* ours perhaps, for its address, but it has no port to tell the relay by */
	READABLE,
};

/* Takes a tag that is in the frame for one more, inside of the one before it; the headers become those behind it. */
static __noinline int read_tag(struct __sk_buff *skb, struct packet *packet)
{
	struct headers *headers = &packet->headers;
	__u16 tag = bpf_ntohs(*(__be16 *)&headers->ip), outer = packet->destination.vlan;
	__u32 rest = skb->len - packet->ip_at - TAG_BYTES;

	if (rest < IPV4_BYTES || rest > 0xffffff)
		return 0;
	if (packet->tags == 0)
		packet->priority = tag & VLAN_PRIORITY;
	else if (outer == 0 || outer == VLAN_NUMBER || (tag & VLAN_NUMBER) == 0)
		return 0;
	packet->tags++;
	packet->destination.outer_vlan = outer;
	packet->destination.vlan = tag & VLAN_NUMBER;
	headers->ethertype = *((__be16 *)&headers->ip + 1);
	packet->ip_at += TAG_BYTES;
	return !bpf_skb_load_bytes(skb, packet->ip_at, &headers->ip,
				   rest < IPV6_BYTES + UDP_BYTES ? rest : IPV6_BYTES + UDP_BYTES);
}

/*
 * Reads the link layer: verdicts 1 and 2. The headers may be cut short by the end of the frame, in `there`; false: not ours.
 * Anything shorter than an IP header has no address that would make it ours.
 */
static __always_inline int read_link(struct __sk_buff *skb, struct packet *packet)
{
	struct headers *headers = &packet->headers;
	__u32 bytes = skb->len;

	if (bytes < ETHERNET_BYTES + IPV4_BYTES)
		return 0;
	packet->ip_at = ETHERNET_BYTES;
	if (bpf_skb_load_bytes(skb, 0, headers->destination_mac, bytes < HEADERS6_BYTES ? bytes : HEADERS6_BYTES))
		return 0;
	if (skb->vlan_present) {
		packet->priority = skb->vlan_tci & VLAN_PRIORITY;
		packet->destination.vlan = skb->vlan_tci & VLAN_NUMBER;
		packet->tags = 1;
	}
	if (is_tag(headers->ethertype) && !read_tag(skb, packet))
		return 0;
	if (is_tag(headers->ethertype) && (packet->tags > 1 || !read_tag(skb, packet)))
		return 0;
	packet->there = bytes - packet->ip_at;
	packet->is_ipv6 = packet->is_ipv6_now = headers->ethertype == bpf_htons(ETHERTYPE_IPV6);
	return (headers->ethertype == bpf_htons(ETHERTYPE_IPV4) || packet->is_ipv6) &&
	       packet->destination.vlan != VLAN_NUMBER;
}

/* Reads the UDP header behind an extension header; of one that is cut short, as much as the ports. */
static __always_inline int load_udp(struct __sk_buff *skb, struct packet *packet, __u32 there)
{
	__u32 at = packet->ip_at + packet->header_bytes;

	if (there < UDP_BYTES)
		return !bpf_skb_load_bytes(skb, at, &packet->udp, 4);
	return !bpf_skb_load_bytes(skb, at, &packet->udp, UDP_BYTES);
}

/* Looks past an extension header; `there` is what there is of the packet. */
static __noinline int read_extension(struct packet *packet, __u32 there)
{
	/* Read with the headers. */
	const __u8 *extension = (const __u8 *)&packet->headers.fragment;
	__u8 kind = packet->headers.ip6.next;

	if (!is_extension(kind))
		return NOT_OURS;
	if (there < IPV6_BYTES + EXTENSION_BYTES) {
		packet->reason = packet->there < packet->total_bytes ? MCR_DROP_TRUNCATED : MCR_DROP_BAD_IP_HEADER;
		return UNREADABLE;
	}
	packet->obstacle = kind == EXTENSION_FRAGMENT ? MCR_DROP_FRAGMENT : MCR_DROP_IP_OPTIONS;
	if (extension[0] != PROTOCOL_UDP) {
		packet->is_portless = 1;
		return is_extension(extension[0]) ? READABLE : NOT_OURS;
	}
	if (kind == EXTENSION_FRAGMENT) {
		packet->fragmentation = fragmentation_of(&packet->headers.fragment);
		packet->identification = packet->headers.fragment.identification;
		packet->has_fragment_header_now = 1;
		packet->header_bytes = IPV6_BYTES + EXTENSION_BYTES;
		if (is_later_fragment(packet))
			packet->is_portless = 1;
		else
			packet->obstacle = GOOD;
	} else {
		packet->header_bytes = IPV6_BYTES + EXTENSION_BYTES + 8 * extension[1];
	}
	return READABLE;
}

/* Reads as far as the ports: verdicts 3 to 5, and the destination of the later ones. */
static __always_inline enum readable read_ipv6(struct __sk_buff *skb, struct packet *packet)
{
	const struct ipv6 *ip = &packet->headers.ip6;
	enum readable readable = READABLE;
	__u32 there;

	if (packet->there < IPV6_BYTES)
		return NOT_OURS;
	packet->packets = 1;
	packet->ttl = ip->hop_limit;
	packet->header_bytes = IPV6_BYTES;
	packet->total_bytes = IPV6_BYTES + bpf_ntohs(ip->payload_bytes);
	if ((ip->first & bpf_htonl(IPV6_VERSION_MASK)) != bpf_htonl(IPV6_VERSION)) {
		packet->reason = MCR_DROP_BAD_IP_HEADER;
		return UNREADABLE;
	}
	there = packet->there < packet->total_bytes ? packet->there : packet->total_bytes;
	if (ip->next != PROTOCOL_UDP)
		readable = read_extension(packet, there);
	if (readable == NOT_OURS || packet->reason == MCR_DROP_BAD_IP_HEADER)
		return readable;
	/* Seen only because the interface is promiscuous. */
	if (skb->pkt_type == PACKET_OTHERHOST &&
	    (ip->destination[0] & bpf_htonl(0xff000000)) != bpf_htonl(0xff000000))
		return NOT_OURS;
	if (readable == UNREADABLE)
		return UNREADABLE;
	packet->udp = packet->headers.udp6;
	if (is_later_fragment(packet) && there == packet->total_bytes && !skb->gso_size && follow_first(packet)) {
		packet->obstacle = GOOD;
		note_destination(packet);
		return READABLE;
	}
	if (packet->is_portless || there < packet->header_bytes + 4) {
		packet->reason = packet->there < packet->total_bytes ? MCR_DROP_TRUNCATED :
				 packet->obstacle != GOOD	     ? packet->obstacle :
								       MCR_DROP_BAD_UDP_LENGTH;
		return UNREADABLE;
	}
	if (packet->header_bytes > IPV6_BYTES && !load_udp(skb, packet, there - packet->header_bytes))
		return NOT_OURS;
	note_destination(packet);
	return READABLE;
}

/* The same of IPv4. */
static __always_inline enum readable read_ipv4(struct __sk_buff *skb, struct packet *packet)
{
	struct headers *headers = &packet->headers;
	__u32 there, first = headers->ip.version_and_words;

	packet->header_bytes = (first & 0x0f) * 4;
	packet->total_bytes = bpf_ntohs(headers->ip.total_bytes);
	packet->packets = 1;
	packet->ttl = headers->ip.ttl;
	if (first >> 4 != 4 || packet->header_bytes < IPV4_BYTES || packet->total_bytes < packet->header_bytes) {
		packet->reason = MCR_DROP_BAD_IP_HEADER;
		return UNREADABLE;
	}
	if (headers->ip.protocol != PROTOCOL_UDP)
		return NOT_OURS;
	/* Seen only because the interface is promiscuous. */
	if (skb->pkt_type == PACKET_OTHERHOST && (headers->ip.destination & bpf_htonl(0xf0000000)) != bpf_htonl(0xe0000000))
		return NOT_OURS;
	there = packet->there < packet->total_bytes ? packet->there : packet->total_bytes;
	packet->fragmentation = headers->ip.fragmentation & bpf_htons(FRAGMENT_MASK);
	packet->identification = bpf_htonl(bpf_ntohs(headers->ip.identification));
	packet->udp = headers->udp;
	if (is_later_fragment(packet) || there < packet->header_bytes + 4) {
		packet->reason = there < packet->total_bytes	   ? MCR_DROP_TRUNCATED :
				 is_fragment(packet)		   ? MCR_DROP_FRAGMENT :
				 packet->header_bytes > IPV4_BYTES ? MCR_DROP_IP_OPTIONS :
								     MCR_DROP_BAD_UDP_LENGTH;
		if (packet->reason != MCR_DROP_TRUNCATED &&
		    !options_checksum_is_right(skb, packet->ip_at, packet->header_bytes))
			packet->reason = MCR_DROP_BAD_IP_CHECKSUM;
		if (packet->reason != MCR_DROP_FRAGMENT || packet->header_bytes > IPV4_BYTES || skb->gso_size)
			return UNREADABLE;
		if (!is_later_fragment(packet))
			packet->reason = MCR_DROP_BAD_UDP_LENGTH;
		if (!is_later_fragment(packet) || !follow_first(packet))
			return UNREADABLE;
		packet->reason = GOOD;
	} else if (packet->header_bytes > IPV4_BYTES &&
		   bpf_skb_load_bytes(skb, packet->ip_at + packet->header_bytes, &packet->udp, 4)) {
		return NOT_OURS;
	}
	note_destination(packet);
	return READABLE;
}

/* Reads all of it; says enum readable. */
__noinline int read_packet(struct __sk_buff *skb, struct packet *packet)
{
	if (!packet || !read_link(skb, packet))
		return NOT_OURS;
	return packet->is_ipv6 ? read_ipv6(skb, packet) : read_ipv4(skb, packet);
}

#endif
