//! The rows.

use super::{DEVICE, DEVICE6, Delivery, GROUP, GROUP6, OUR_MAC, Row, Verdict};
use crate::frame::{Checksum, Frame, Tag};
use crate::interface::Mac;
use Verdict::{OnInput, Passed, Refused, Sent, Unsent};

/// Every row, for an input whose own address is `own`.
#[rustfmt::skip]
pub fn rows(own: Mac) -> Vec<Row> {
    use mcr_wire::DropReason::*;
    let tagged = |tag| to_group().tag(tag);
    let rows: Vec<(&'static str, Frame, Verdict)> = vec![
        // What is sent.
        ("plain", to_group(), Sent),
        ("no payload", carrying(0), Sent),
        ("one byte", carrying(1), Sent),
        ("two bytes", carrying(2), Sent),
        ("three bytes", carrying(3), Sent),
        ("one less than a chunk", carrying(512 - 8 - 1), Sent),
        ("a chunk", carrying(512 - 8), Sent),
        ("one more than a chunk", carrying(512 - 8 + 1), Sent),
        ("two chunks and three bytes", carrying(1024 - 8 + 3), Sent),
        ("ordinary video", carrying(1316), Sent),
        ("the largest of the MTU", carrying(1472), Sent),
        ("larger than the MTU", carrying(1473), Unsent),
        ("twice the MTU", carrying(2900), Unsent),
        ("jumbo", jumbo(8952), Sent),
        ("jumbo that fits as IPv4 only", jumbo(8972), Sent),
        ("jumbo, tagged with a priority", jumbo(8900).tag(Tag::with_priority(0, 5)), Sent),
        ("jumbo, wrong UDP checksum", jumbo(8000).udp_checksum(Checksum::Wrong), Refused(BadUdpChecksum)),
        ("jumbo without UDP checksum, which IPv6 gets", jumbo(8001).udp_checksum(Checksum::Zero), Sent),
        ("jumbo of a relay to ordinary networks", carrying(8972), Unsent),
        ("TTL 1", to_group().ttl(1), Sent),
        ("TTL 0", to_group().ttl(0), Sent),
        ("TTL 255", to_group().ttl(255), Sent),
        ("DSCP and ECN", to_group().traffic_class(0xbb), Sent),
        ("ECN only", to_group().traffic_class(0x03), Sent),
        ("may be fragmented", to_group().flags_and_offset(0), Sent),
        ("reserved flag", to_group().flags_and_offset(0x8000), Sent),
        ("reserved flag and DF", to_group().flags_and_offset(0xc000), Sent),
        ("identification 0", to_group().identification(0), Sent),
        ("identification ffff", to_group().identification(0xffff), Sent),
        ("source port 0", Frame::udp("192.168.168.55:0", GROUP, b"x".to_vec()), Sent),
        ("destination port 0", to("239.1.1.8:0"), Sent),
        ("padding to 60", carrying(1).padding(17), Sent),
        ("padding of one byte", to_group().padding(1), Sent),
        ("much padding", carrying(600).padding(400), Sent),
        ("padding of a larger one than the MTU", carrying(1472).padding(100), Sent),
        ("kept and decremented TTL, 2", to_kept().ttl(2), Sent),
        ("kept and decremented TTL, 1: too small for some", to_kept().ttl(1), Sent),
        ("kept and decremented TTL, 0: too small for all", to_kept().ttl(0), Unsent),
        ("kept and decremented TTL, 255", to_kept().ttl(255), Sent),
        ("kept TTL, damaged", to_kept().ttl(0).udp_checksum(Checksum::Wrong), Refused(BadUdpChecksum)),
        ("kept TTL, too big", to_kept_carrying(1473), Unsent),
        ("a mapped code point", to_kept().traffic_class(46 << 2 | 1), Sent),
        ("another mapped code point", to_kept().traffic_class(34 << 2), Sent),
        ("code point 0, mapped", to_kept().traffic_class(3), Sent),
        ("the last mapped code point", to_kept().traffic_class(63 << 2), Sent),
        ("a code point that is not mapped", to_kept().traffic_class(10 << 2 | 2), Sent),
        ("a mapped code point, no UDP checksum", to_kept().traffic_class(46 << 2).udp_checksum(Checksum::Zero), Sent),
        ("a mapped code point, tagged with a priority", to_kept().traffic_class(46 << 2).tag(Tag::with_priority(0, 5)), Sent),
        // Checksums.
        ("no UDP checksum", to_group().udp_checksum(Checksum::Zero), Sent),
        ("no UDP checksum, tagged", tagged(Tag::vlan(100)).udp_checksum(Checksum::Zero), Sent),
        ("no UDP checksum, padded", carrying(3).padding(20).udp_checksum(Checksum::Zero), Sent),
        ("UDP checksum ffff", with_checksum(0xffff), Sent),
        ("UDP checksum 1", with_checksum(1), Sent),
        ("UDP checksum fffe", with_checksum(0xfffe), Sent),
        ("wrong UDP checksum", to_group().udp_checksum(Checksum::Wrong), Refused(BadUdpChecksum)),
        ("wrong UDP checksum, tagged", tagged(Tag::vlan(100)).udp_checksum(Checksum::Wrong), Refused(BadUdpChecksum)),
        ("wrong UDP checksum, large", carrying(1400).udp_checksum(Checksum::Wrong), Refused(BadUdpChecksum)),
        ("only the pseudo header's sum", to_group().udp_checksum(Checksum::Partial), Refused(BadUdpChecksum)),
        ("wrong IP checksum", to_group().ip_checksum(Checksum::Wrong), Refused(BadIpChecksum)),
        ("zero IP checksum", to_group().ip_checksum(Checksum::Exactly(0)), Refused(BadIpChecksum)),
        ("both wrong: IP counts", to_group().ip_checksum(Checksum::Wrong).udp_checksum(Checksum::Wrong), Refused(BadIpChecksum)),
        // Tags.
        ("VLAN 100", tagged(Tag::vlan(100)), Sent),
        ("VLAN 100, priority 5", tagged(Tag::with_priority(100, 5)), Sent),
        ("VLAN 100, drop eligible", tagged(Tag { protocol: 0x8100, control: 0x1064 }), Sent),
        ("VLAN 100, priority 7 and drop eligible", tagged(Tag { protocol: 0x8100, control: 0xf064 }), Sent),
        ("service VLAN 100", tagged(Tag::service(100)), Sent),
        ("VLAN 100, padded", tagged(Tag::vlan(100)).padding(13), Sent),
        ("VLAN 100, large", carrying(1400).tag(Tag::vlan(100)), Sent),
        ("priority only", tagged(Tag::with_priority(0, 6)), Sent),
        ("priority only, padded", tagged(Tag::with_priority(0, 6)).padding(5), Sent),
        ("another VLAN", tagged(Tag::vlan(101)), Passed),
        ("VLAN 4095", tagged(Tag::vlan(4095)), Passed),
        ("two tags", in_stack(to_group()), Sent),
        ("two tags, priorities", tagged(Tag { protocol: 0x88a8, control: 0xb007 }).tag(Tag::with_priority(100, 2)), Sent),
        ("two tags, both of customers", tagged(Tag::vlan(7)).tag(Tag::vlan(100)), Sent),
        ("two tags, padded", in_stack(carrying(1)).padding(9), Sent),
        ("two tags, large", in_stack(carrying(1400)), Sent),
        ("two tags, no UDP checksum", in_stack(to_group()).udp_checksum(Checksum::Zero), Sent),
        ("two tags, wrong UDP checksum", in_stack(to_group()).udp_checksum(Checksum::Wrong), Refused(BadUdpChecksum)),
        ("two tags, first fragment", in_stack(first(8)), Sent),
        ("two tags, its later one", in_stack(later(8, 0x2004)), Sent),
        ("one tag, its later one: another's", later(8, 0x2004).tag(Tag::vlan(100)), OnInput(Fragment)),
        ("two tags, one output", in_stack(to("239.1.1.14:5014")), Sent),
        ("two tags of IPv6", in_stack(to_group6()), Sent),
        ("none, to two tags", to("239.1.1.14:5014"), Sent),
        ("a priority only, to two tags", to("239.1.1.14:5014").tag(Tag::with_priority(0, 3)), Sent),
        ("none, to two tags alone", to("239.1.1.15:5015"), Sent),
        ("none, IPv6 to two tags", to6("[ff3e::1:7]:5008"), Sent),
        ("two tags the other way around", tagged(Tag::service(100)).tag(Tag::vlan(7)), Passed),
        ("two tags with another outer one", tagged(Tag::service(8)).tag(Tag::vlan(100)), Passed),
        ("two tags, the outer one a priority", tagged(Tag::with_priority(0, 5)).tag(Tag::vlan(100)), Passed),
        ("two tags, the inner one a priority", tagged(Tag::service(7)).tag(Tag::with_priority(0, 5)), Passed),
        ("two tags, the inner one reserved", tagged(Tag::service(7)).tag(Tag::vlan(4095)), Passed),
        ("three tags", tagged(Tag::service(7)).tag(Tag::service(7)).tag(Tag::vlan(100)), Passed),
        ("two tags, cut after them", in_stack(to_group()).cut_to(22), Passed),
        ("VLAN 100 of an untagged relay", to("239.1.1.2:5002").tag(Tag::vlan(100)), Passed),
        // Who listens.
        ("another group", to("239.1.1.200:5001"), Passed),
        ("another port", to("239.1.1.1:5999"), Passed),
        ("a listed source", to("239.1.1.2:5002"), Sent),
        ("the other listed source", Frame::udp("192.168.168.56:1", "239.1.1.2:5002", b"x".to_vec()), Sent),
        ("a source that is not listed", stranger(), OnInput(SourceNotListed)),
        ("not listed and damaged", stranger().udp_checksum(Checksum::Wrong), OnInput(BadUdpChecksum)),
        ("a source that is not excluded", to("239.1.1.13:5013"), Sent),
        ("an excluded source", from_excluded(57), OnInput(SourceNotListed)),
        ("the other excluded source", from_excluded(58), OnInput(SourceNotListed)),
        ("an excluded source, damaged", from_excluded(57).udp_checksum(Checksum::Wrong), OnInput(BadUdpChecksum)),
        ("a single source beside prefixes", in_prefix("192.168.168.55"), Sent),
        ("the first of a prefix of 8 bits", in_prefix("10.0.0.0"), Sent),
        ("one of a prefix of 8 bits", in_prefix("10.20.30.40"), Sent),
        ("the last of a prefix of 8 bits", in_prefix("10.255.255.255"), Sent),
        ("one after a prefix of 8 bits", in_prefix("11.0.0.0"), OnInput(SourceNotListed)),
        ("one of a prefix of 12 bits", in_prefix("172.31.255.1"), Sent),
        ("one after a prefix of 12 bits", in_prefix("172.32.0.1"), OnInput(SourceNotListed)),
        ("one of a prefix of 23 bits", in_prefix("192.168.171.7"), Sent),
        ("one after a prefix of 23 bits", in_prefix("192.168.172.7"), OnInput(SourceNotListed)),
        ("one before a prefix of 26 bits", in_prefix("192.168.168.63"), OnInput(SourceNotListed)),
        ("the last of a prefix of 26 bits", in_prefix("192.168.168.127"), Sent),
        ("an excluded prefix", not_in_prefix("10.20.30.40"), OnInput(SourceNotListed)),
        ("beside an excluded prefix", not_in_prefix("192.168.168.54"), Sent),
        ("IPv6, a single source beside prefixes", in_prefix6("fd00:1::"), Sent),
        ("IPv6, one after a single source", in_prefix6("fd00:1::1"), OnInput(SourceNotListed)),
        ("IPv6, one of a prefix of 33 bits", in_prefix6("fd00:2:7fff::1"), Sent),
        ("IPv6, one after a prefix of 33 bits", in_prefix6("fd00:2:8000::1"), OnInput(SourceNotListed)),
        ("IPv6, one of a prefix of 64 bits", in_prefix6("fd00:dead::55"), Sent),
        ("IPv6, one after a prefix of 64 bits", in_prefix6("fd00:dead:0:1::55"), OnInput(SourceNotListed)),
        ("IPv6, one of a prefix of 127 bits", in_prefix6("fd00:3::1"), Sent),
        ("IPv6, one after a prefix of 127 bits", in_prefix6("fd00:3::2"), OnInput(SourceNotListed)),
        ("IPv6, one of a prefix of 109 bits", in_prefix6("fd00:4::f:ffff"), Sent),
        ("IPv6, one before a prefix of 109 bits", in_prefix6("fd00:4::7:ffff"), OnInput(SourceNotListed)),
        ("IPv6, an excluded prefix", not_in_prefix6("fd00:dead::55"), OnInput(SourceNotListed)),
        ("IPv6, beside an excluded prefix", not_in_prefix6("fd00:dead:0:1::55"), Sent),
        ("a priority that is set anew", to("239.1.1.13:5013").tag(Tag::with_priority(0, 3)), Sent),
        ("drop eligible, a priority is set", to("239.1.1.13:5013").tag(Tag { protocol: 0x8100, control: 0x1000 }), Sent),
        ("three relays, two want it", to("239.1.1.3:5003"), Sent),
        ("three relays, two want it, damaged", to("239.1.1.3:5003").udp_checksum(Checksum::Wrong), Refused(BadUdpChecksum)),
        ("three relays, another source", Frame::udp("192.168.168.99:1", "239.1.1.3:5003", b"x".to_vec()), Sent),
        ("three relays, a stranger", Frame::udp("192.168.168.1:1", "239.1.1.3:5003", b"x".to_vec()), Sent),
        ("no output works", to("239.1.1.4:5004"), Unsent),
        ("no outputs", to("239.1.1.5:5005"), Unsent),
        ("small MTUs: the larger one fits", to_small_mtus(73), Sent),
        ("small MTUs: two fit", to_small_mtus(72), Sent),
        ("small MTUs: none fits", to_small_mtus(74), Unsent),
        ("unicast to us", to("10.0.0.1:5007").destination_mac(own), Sent),
        ("unicast by broadcast", to("10.0.0.1:5007"), Sent),
        ("unicast to another host", to("10.0.0.1:5007").destination_mac(Mac([2, 1, 1, 1, 1, 1])), Passed),
        ("a group, to another host's address", to_group().destination_mac(Mac([2, 1, 1, 1, 1, 1])), Sent),
        ("limited broadcast", to("255.255.255.255:67"), Sent),
        // Loops.
        ("our own address", to_group().source_mac(OUR_MAC), Refused(Loop)),
        ("our own address, tagged", tagged(Tag::vlan(100)).source_mac(OUR_MAC), Refused(Loop)),
        ("our own address, damaged", to_group().source_mac(OUR_MAC).udp_checksum(Checksum::Wrong), Refused(BadUdpChecksum)),
        ("our own address, another group", to("239.1.1.200:1").source_mac(OUR_MAC), Passed),
        // Not IPv4 UDP.
        ("ARP", to_group().ethertype(0x0806), Passed),
        ("IPv4 that says it is IPv6", to_group().ethertype(0x86dd), Passed),
        ("a length instead of a type", to_group().ethertype(60), Passed),
        ("TCP", to_group().protocol(6), Passed),
        ("TCP with a wrong IP checksum", to_group().protocol(6).ip_checksum(Checksum::Wrong), Passed),
        ("IGMP", to_group().protocol(2), Passed),
        // Headers that contradict themselves.
        ("version 5", to_group().version(5), OnInput(BadIpHeader)),
        ("version 6", to_group().version(6), OnInput(BadIpHeader)),
        ("header of 16 bytes", to_group().header_words(4), OnInput(BadIpHeader)),
        ("header of none", to_group().header_words(0), OnInput(BadIpHeader)),
        ("total length under the header's", to_group().total_length(19), OnInput(BadIpHeader)),
        ("total length 0", to_group().total_length(0), OnInput(BadIpHeader)),
        ("bad header to another group", to("239.1.1.200:5001").version(5), Passed),
        ("bad header in a VLAN", tagged(Tag::vlan(100)).version(5), OnInput(BadIpHeader)),
        ("total length of a header only", to_group().total_length(20), OnInput(BadUdpLength)),
        ("total length of half a UDP header", to_group().total_length(24), Refused(BadUdpLength)),
        ("total length one more than there is", to_group().total_length(20 + 8 + 23 + 1), Refused(Truncated)),
        ("total length ffff", to_group().total_length(0xffff), Refused(Truncated)),
        ("UDP length 7", to_group().udp_length(7), Refused(BadUdpLength)),
        ("UDP length 0", to_group().udp_length(0), Refused(BadUdpLength)),
        ("UDP length one less", to_group().udp_length(8 + 22), Refused(BadUdpLength)),
        ("UDP length one more", to_group().udp_length(8 + 24), Refused(BadUdpLength)),
        ("UDP length into the padding", to_group().udp_length(8 + 24).padding(10), Refused(BadUdpLength)),
        // Fragments.
        ("later fragment before its first", later(1, 0x2001), OnInput(Fragment)),
        ("last fragment before its first", later(1, 0x0010), OnInput(Fragment)),
        ("first fragment", first(1), Sent),
        ("its later one", later(1, 0x2004), Sent),
        ("its last one", later(1, 0x0007), Sent),
        ("its last one, padded", later(1, 0x0007).padding(7), Sent),
        ("its later one with a wrong IP checksum", later(1, 0x2004).ip_checksum(Checksum::Wrong), OnInput(BadIpChecksum)),
        ("its later one with options", later(1, 0x2004).options(&options(1)), OnInput(Fragment)),
        ("its later one, cut", later(1, 0x2004).cut_to(14 + 20 + 8), OnInput(Truncated)),
        ("its later one from our own address", later(1, 0x2004).source_mac(OUR_MAC), Refused(Loop)),
        ("its later one, tagged: another's", later(1, 0x2004).tag(Tag::vlan(100)), OnInput(Fragment)),
        ("later fragment of another identification", later(2, 0x2004), OnInput(Fragment)),
        ("later fragment of another source", Frame::udp("192.168.168.57:1", GROUP, b"more".to_vec()).without_udp_header().identification(1).flags_and_offset(0x2004), OnInput(Fragment)),
        ("first fragment with the DF and reserved flags", first(3).flags_and_offset(0xe000), Sent),
        ("first fragment without UDP checksum", first(4).udp_checksum(Checksum::Zero), Sent),
        ("first fragment, tagged with a priority", first(5).tag(Tag::with_priority(100, 5)), Sent),
        ("its later one, tagged with another", later(5, 0x2004).tag(Tag::with_priority(100, 3)), Sent),
        ("first fragment of what is larger than the MTU", carrying(1480).flags_and_offset(0x2000).udp_length(9000), Unsent),
        ("first fragment of a source that is not listed", of_more(stranger(), 0x2000), OnInput(SourceNotListed)),
        ("its later one: a refused first one is not remembered", stranger().without_udp_header().flags_and_offset(0x2002), OnInput(Fragment)),
        ("first fragment from our own address", first(6).source_mac(OUR_MAC), Refused(Loop)),
        ("a later one of what came back to us", later(6, 0x2004), OnInput(Fragment)),
        ("first fragment with kept and mapped fields", of_more(to_kept(), 0x2000).ttl(1).traffic_class(46 << 2), Sent),
        ("its later one, with others", to_kept().without_udp_header().flags_and_offset(0x2005).ttl(9), Sent),
        ("first fragment to small MTUs", of_more(to_small_mtus(72), 0x2000), Sent),
        ("its later one: without a UDP header it fits all", to_small_mtus(48).without_udp_header().flags_and_offset(0x000a), Sent),
        ("IPv4 to IPv6, first fragment", of_more(across(16), 0x2000), Sent),
        ("IPv4 to IPv6, later fragment", across(5).without_udp_header().flags_and_offset(0x0003), Sent),
        ("IPv4 to IPv6, first fragment without UDP checksum", of_more(across(16), 0x2000).udp_checksum(Checksum::Zero), Sent),
        ("first fragment of another group", of_more(to("239.1.1.200:1"), 0x2000), Passed),
        ("first fragment that is all", to_group().identification(7).flags_and_offset(0x2000), Refused(BadUdpLength)),
        ("first fragment of more than its UDP header speaks of", to_group().flags_and_offset(0x2000).udp_length(30), Refused(BadUdpLength)),
        ("first fragment of half a UDP header", to_group().flags_and_offset(0x2000).total_length(26), Refused(BadUdpLength)),
        ("first fragment of three bytes", to_group().flags_and_offset(0x2000).total_length(23), OnInput(BadUdpLength)),
        ("later fragment of a refused first one", later(7, 0x2001), OnInput(Fragment)),
        ("later fragment of another group", to("239.1.1.200:1").flags_and_offset(0x2001), Passed),
        ("first fragment, wrong IP checksum", to_group().flags_and_offset(0x2000).ip_checksum(Checksum::Wrong), Refused(BadIpChecksum)),
        ("first fragment with options", to_group().options(&options(1)).flags_and_offset(0x2000), Refused(Fragment)),
        // Options.
        ("four bytes of options", to_group().options(&options(1)), Refused(IpOptions)),
        ("forty bytes of options", to_group().options(&options(10)), Refused(IpOptions)),
        ("options and a wrong IP checksum", to_group().options(&options(2)).ip_checksum(Checksum::Wrong), Refused(BadIpChecksum)),
        ("options, tagged", tagged(Tag::vlan(100)).options(&options(3)), Refused(IpOptions)),
        ("options of another group", to("239.1.1.200:5001").options(&options(1)), Passed),
        ("options and no ports", carrying(0).options(&options(2)).total_length(28), OnInput(IpOptions)),
        // Cut off.
        ("cut in the payload", to_group().cut_to(14 + 20 + 8 + 10), Refused(Truncated)),
        ("cut after the UDP header", to_group().cut_to(14 + 20 + 8), Refused(Truncated)),
        ("cut in the UDP header", to_group().cut_to(14 + 20 + 5), Refused(Truncated)),
        ("cut after the ports", to_group().cut_to(14 + 20 + 4), Refused(Truncated)),
        ("cut in the ports", to_group().cut_to(14 + 20 + 3), OnInput(Truncated)),
        ("cut after the IP header", to_group().cut_to(14 + 20), OnInput(Truncated)),
        ("cut in the options", to_group().options(&options(10)).cut_to(14 + 40), OnInput(Truncated)),
        ("cut after the options", to_group().options(&options(2)).cut_to(14 + 28), OnInput(Truncated)),
        ("cut after the options' ports", to_group().options(&options(2)).cut_to(14 + 32), Refused(Truncated)),
        ("cut in the tag", tagged(Tag::vlan(100)).cut_to(16), Passed),
        ("cut after the tag", tagged(Tag::vlan(100)).cut_to(18), Passed),
        ("cut in a tagged IP header", tagged(Tag::vlan(100)).cut_to(18 + 19), Passed),
        ("cut after a tagged IP header", tagged(Tag::vlan(100)).cut_to(18 + 20), OnInput(Truncated)),
        ("cut after tagged ports", tagged(Tag::vlan(100)).cut_to(18 + 24), Refused(Truncated)),
        ("cut and the IP checksum wrong: cut counts", to_group().ip_checksum(Checksum::Wrong).cut_to(45), Refused(Truncated)),
    ];
    let whole = rows.into_iter().map(|(what, frame, verdict)| Row { what, frame, delivery: Delivery::Whole, verdict });
    whole.chain(rows_of_ipv6(own)).chain(offloaded()).collect()
}

/// Those of IPv6, and those that leave as the other family.
#[rustfmt::skip]
fn rows_of_ipv6(own: Mac) -> impl Iterator<Item = Row> {
    use mcr_wire::DropReason::*;
    let tagged = |tag| to_group6().tag(tag);
    let after = |kind, body: &[u8]| to_group6().extension(kind, body);
    let rows: Vec<(&'static str, Frame, Verdict)> = vec![
        // What is sent.
        ("IPv6: plain", to_group6(), Sent),
        ("IPv6: no payload", carrying6(0), Sent),
        ("IPv6: one byte", carrying6(1), Sent),
        ("IPv6: two bytes", carrying6(2), Sent),
        ("IPv6: three bytes", carrying6(3), Sent),
        ("IPv6: a chunk", carrying6(512 - 8), Sent),
        ("IPv6: one more than a chunk", carrying6(512 - 8 + 1), Sent),
        ("IPv6: the largest of the MTU", carrying6(1452), Sent),
        ("IPv6: fits as IPv4 only", carrying6(1472), Sent),
        ("IPv6: fits nowhere", carrying6(1473), Unsent),
        ("IPv6: jumbo", jumbo6(8951), Sent),
        ("IPv6: jumbo that fits both", jumbo6(8952), Sent),
        ("IPv6: hop limit 1", to_group6().ttl(1), Sent),
        ("IPv6: hop limit 0", to_group6().ttl(0), Sent),
        ("IPv6: DSCP, ECN and a flow label", to_group6().traffic_class(0xbb).flow_label(0xabcde), Sent),
        ("IPv6: the lower half of the traffic class", to_group6().traffic_class(0x0f).flow_label(0xfffff), Sent),
        ("IPv6: source port 0", Frame::udp("[fd00:dead::55]:0", GROUP6, b"x".to_vec()), Sent),
        ("IPv6: link-local sender", Frame::udp("[fe80::1]:5000", GROUP6, b"xy".to_vec()), Sent),
        ("IPv6: padding", carrying6(1).padding(9), Sent),
        ("IPv6: much padding", carrying6(600).padding(400), Sent),
        ("IPv6: UDP checksum ffff", with_checksum6(0xffff), Sent),
        ("IPv6: UDP checksum 1", with_checksum6(1), Sent),
        ("IPv6: a group that differs early", to6("[ff05:1::1:1]:5001"), Sent),
        ("IPv6: kept and decremented hop limit, mapped code point", to_kept6().ttl(2).traffic_class(46 << 2 | 1), Sent),
        ("IPv6: kept and decremented hop limit, 1: too small for some", to_kept6().ttl(1).traffic_class(0xff), Sent),
        ("IPv6: kept and decremented hop limit, 0: too small for all", to_kept6().ttl(0), Unsent),
        ("IPv6: code point 0, mapped", to_kept6().ttl(255).traffic_class(2).flow_label(0xfffff), Sent),
        ("IPv6 to IPv6 alone", to6("[ff3e::1:5]:5006"), Sent),
        ("IPv6 to IPv4 alone", to6("[ff3e::1:4]:5005").traffic_class(0x2e).flow_label(9), Sent),
        ("IPv6 to IPv4 alone, padded", to6("[ff3e::1:4]:5005").padding(11), Sent),
        ("IPv6: VLAN 100", tagged(Tag::vlan(100)), Sent),
        ("IPv6: VLAN 100, priority 5, padded", tagged(Tag::with_priority(100, 5)).padding(7), Sent),
        ("IPv6: service VLAN 100", tagged(Tag::service(100)), Sent),
        ("IPv6: priority only", tagged(Tag::with_priority(0, 6)), Sent),
        ("IPv6: another VLAN", tagged(Tag::vlan(101)), Passed),
        ("IPv6: two tags", tagged(Tag::service(100)).tag(Tag::vlan(100)), Passed),
        // From IPv4.
        ("IPv4 to IPv6", to("239.1.1.12:5012"), Sent),
        ("IPv4 to IPv6, DSCP and ECN", to("239.1.1.12:5012").traffic_class(0xbb), Sent),
        ("IPv4 to IPv6, may be fragmented", to("239.1.1.12:5012").flags_and_offset(0), Sent),
        ("IPv4 to IPv6, no UDP checksum", to("239.1.1.12:5012").udp_checksum(Checksum::Zero), Sent),
        ("IPv4 to IPv6, no UDP checksum, large", across(1001).udp_checksum(Checksum::Zero), Sent),
        ("IPv4 to IPv6, no UDP checksum, padded", to("239.1.1.12:5012").padding(21).udp_checksum(Checksum::Zero), Sent),
        ("IPv4 to IPv6, VLAN 100, priority 3", to("239.1.1.12:5012").tag(Tag::with_priority(100, 3)), Sent),
        ("IPv4 to IPv6, padded", to("239.1.1.12:5012").padding(5), Sent),
        ("IPv4 to IPv6, the largest of the MTU", across(1452), Sent),
        ("IPv4 to IPv6, fits as IPv4 only", across(1453), Sent),
        ("IPv4 to IPv6, fits nowhere", across(1473), Unsent),
        ("IPv4 to IPv6, wrong UDP checksum", to("239.1.1.12:5012").udp_checksum(Checksum::Wrong), Refused(BadUdpChecksum)),
        ("IPv4 to IPv6 alone", to("239.1.1.11:5011"), Sent),
        ("IPv4 to IPv6 alone, no UDP checksum", to("239.1.1.11:5011").udp_checksum(Checksum::Zero), Sent),
        ("IPv4 to IPv6, small MTUs: both fit", Frame::udp(DEVICE, "239.1.1.10:5010", vec![7; 52]), Sent),
        ("IPv4 to IPv6, small MTUs: IPv4 fits", Frame::udp(DEVICE, "239.1.1.10:5010", vec![7; 53]), Sent),
        ("IPv4 to IPv6, small MTUs: none fits", Frame::udp(DEVICE, "239.1.1.10:5010", vec![7; 73]), Unsent),
        ("IPv6 to IPv4, small MTUs: both fit", small6(52), Sent),
        ("IPv6 to IPv4, small MTUs: IPv4 fits", small6(72), Sent),
        ("IPv6 to IPv4, small MTUs: none fits", small6(73), Unsent),
        // Who listens.
        ("IPv6: another group", to6("[ff3e::1:200]:5001"), Passed),
        ("IPv6: another port", to6("[ff3e::1:1]:5999"), Passed),
        ("IPv6: a listed source", to6("[ff3e::1:2]:5002"), Sent),
        ("IPv6: the other listed source", Frame::udp("[fd00:dead::56]:1", "[ff3e::1:2]:5002", b"x".to_vec()), Sent),
        ("IPv6: a source that is not listed", stranger6(), OnInput(SourceNotListed)),
        ("IPv6: not listed and damaged", stranger6().udp_checksum(Checksum::Wrong), OnInput(BadUdpChecksum)),
        ("IPv6: unicast to us", to6("[fd00::1]:5004").destination_mac(own), Sent),
        ("IPv6: unicast to another host", to6("[fd00::1]:5004").destination_mac(Mac([2, 1, 1, 1, 1, 1])), Passed),
        ("IPv6: our own address", to_group6().source_mac(OUR_MAC), Refused(Loop)),
        // Checksums.
        ("IPv6: wrong UDP checksum", to_group6().udp_checksum(Checksum::Wrong), Refused(BadUdpChecksum)),
        ("IPv6: no UDP checksum", to_group6().udp_checksum(Checksum::Zero), Refused(BadUdpChecksum)),
        ("IPv6: only the pseudo header's sum", to_group6().udp_checksum(Checksum::Partial), Refused(BadUdpChecksum)),
        // Headers that contradict themselves, and other protocols.
        ("IPv6: version 4", to_group6().version(4), OnInput(BadIpHeader)),
        ("IPv6: version 7", to_group6().version(7), OnInput(BadIpHeader)),
        ("IPv6 that says it is IPv4", to_group6().ethertype(0x0800), Passed),
        ("IPv6: TCP", to_group6().protocol(6), Passed),
        ("IPv6: ICMPv6", to_group6().protocol(58), Passed),
        ("IPv6: ICMPv6 behind a router alert", after(0, &ROUTER_ALERT).protocol(58), Passed),
        ("IPv6: nothing follows", to_group6().protocol(59), Passed),
        ("IPv6: payload length 0", to_group6().total_length(0), OnInput(BadUdpLength)),
        ("IPv6: payload length of half a UDP header", to_group6().total_length(4), Refused(BadUdpLength)),
        ("IPv6: payload length one more than there is", to_group6().total_length(8 + 23 + 1), Refused(Truncated)),
        ("IPv6: UDP length 7", to_group6().udp_length(7), Refused(BadUdpLength)),
        ("IPv6: UDP length one more", to_group6().udp_length(8 + 24), Refused(BadUdpLength)),
        // Fragments and extension headers.
        ("IPv6: later fragment before its first", later6(0x10001, 0x2004), OnInput(Fragment)),
        ("IPv6: first fragment", first6(0x10001), Sent),
        ("IPv6: its later one", later6(0x10001, 0x2004), Sent),
        ("IPv6: its last one, padded", later6(0x10001, 0x0007).padding(7), Sent),
        ("IPv6: its later one, tagged: another's", later6(0x10001, 0x2004).tag(Tag::vlan(100)), OnInput(Fragment)),
        ("IPv6: its later one, cut", later6(0x10001, 0x2004).cut_to(14 + 48 + 8), OnInput(Truncated)),
        ("IPv6: its later one from our own address", later6(0x10001, 0x2004).source_mac(OUR_MAC), Refused(Loop)),
        ("IPv6: later fragment with the same lower half of the identification", later6(1, 0x2004), OnInput(Fragment)),
        ("IPv6: later fragment of another source", Frame::udp("[fd00:dead::57]:1", GROUP6, b"more".to_vec()).without_udp_header().fragment(0x10001, 0x2004), OnInput(Fragment)),
        ("IPv6: later fragment of nothing", carrying6(0).without_udp_header().fragment(0x10001, 7), Sent),
        ("IPv6: first fragment, tagged with a priority", first6(2).tag(Tag::with_priority(100, 5)), Sent),
        ("IPv6: its later one, tagged with another", later6(2, 0x2004).tag(Tag::with_priority(100, 3)), Sent),
        ("IPv6: first fragment in two tags", in_stack(first6(3)), Sent),
        ("IPv6: its later one in two tags", in_stack(later6(3, 0x2004)), Sent),
        ("IPv6: first fragment with DSCP, ECN and a flow label", first6(4).traffic_class(0xbb).flow_label(0xabcde), Sent),
        ("IPv6: its later one, with others", later6(4, 4).traffic_class(0x02).flow_label(1).ttl(9), Sent),
        ("IPv6: first fragment with kept and mapped fields", to_kept6().udp_length(1000).fragment(5, 0x2000).ttl(1).traffic_class(46 << 2), Sent),
        ("IPv6: its later one, with a hop limit of 0", to_kept6().without_udp_header().fragment(5, 5).ttl(0), Unsent),
        ("IPv6: the largest first fragment of the MTU", carrying6(1444).udp_length(9000).fragment(6, 0x2000), Sent),
        ("IPv6: its later one, which fits as IPv4 only", carrying6(1480).without_udp_header().fragment(6, 181), Sent),
        ("IPv6: its later one, which fits nowhere", carrying6(1488).without_udp_header().fragment(6, 181), Unsent),
        ("IPv6: first fragment to small MTUs", small6(44).udp_length(1000).fragment(7, 0x2000), Sent),
        ("IPv6: its later one: without a UDP header it fits", small6(52).without_udp_header().fragment(7, 6), Sent),
        ("IPv6: first fragment to IPv6 alone", to6("[ff3e::1:5]:5006").udp_length(1000).fragment(8, 0x2000), Sent),
        ("IPv6: its later one to IPv6 alone", to6("[ff3e::1:5]:5006").without_udp_header().fragment(8, 9), Sent),
        ("IPv6: first fragment to IPv4 alone", to6("[ff3e::1:4]:5005").udp_length(1000).fragment(0xabcd_ef01, 0x2000), Sent),
        ("IPv6: its later one to IPv4 alone", to6("[ff3e::1:4]:5005").without_udp_header().fragment(0xabcd_ef01, 0x3fff), Sent),
        ("IPv6: first fragment to two tags", to6("[ff3e::1:7]:5008").udp_length(1000).fragment(9, 0x2000), Sent),
        ("IPv6: a fragment that is whole", to_group6().fragment(0x1234_5678, 0), Sent),
        ("IPv6: a fragment that is whole, padded and tagged", tagged(Tag::with_priority(100, 1)).fragment(0, 0).padding(9), Sent),
        ("IPv6: a later one of what was whole", later6(0x1234_5678, 0x0003), OnInput(Fragment)),
        ("IPv6: a fragment that is whole, damaged", to_group6().fragment(10, 0).udp_checksum(Checksum::Wrong), Refused(BadUdpChecksum)),
        ("IPv6: a fragment that is whole, without UDP checksum", to_group6().fragment(10, 0).udp_checksum(Checksum::Zero), Refused(BadUdpChecksum)),
        ("IPv6: a fragment that is whole, UDP length one more", to_group6().fragment(10, 0).udp_length(8 + 24), Refused(BadUdpLength)),
        ("IPv6: first fragment without UDP checksum", first6(11).udp_checksum(Checksum::Zero), Refused(BadUdpChecksum)),
        ("IPv6: first fragment that is all", to_group6().fragment(11, 0x2000), Refused(BadUdpLength)),
        ("IPv6: first fragment of half a UDP header", to_group6().fragment(11, 0x2000).total_length(8 + 6), Refused(BadUdpLength)),
        ("IPv6: first fragment of three bytes", to_group6().fragment(11, 0x2000).total_length(8 + 3), OnInput(BadUdpLength)),
        ("IPv6: later fragment of a refused first one", later6(11, 0x2004), OnInput(Fragment)),
        ("IPv6: first fragment from our own address", first6(12).source_mac(OUR_MAC), Refused(Loop)),
        ("IPv6: a later one of what came back to us", later6(12, 4), OnInput(Fragment)),
        ("IPv6: first fragment of a source that is not listed", stranger6().udp_length(1000).fragment(13, 0x2000), OnInput(SourceNotListed)),
        ("IPv6: first fragment of another group", to6("[ff3e::1:200]:1").udp_length(1000).fragment(13, 0x2000), Passed),
        ("IPv6: first fragment, cut", first6(13).cut_to(14 + 48 + 8 + 4), Refused(Truncated)),
        ("IPv6: first fragment, cut after the ports", first6(13).cut_to(14 + 48 + 4), Refused(Truncated)),
        ("IPv6: first fragment, cut in the ports", first6(13).cut_to(14 + 48 + 3), OnInput(Truncated)),
        // From IPv4, with IPv4 between.
        ("IPv4 to IPv6, first fragment that fits as IPv4 only", across(1472).udp_length(9000).fragment(14, 0x2000), Sent),
        ("IPv4 to IPv6, its later one", across(1448).without_udp_header().fragment(14, 0x2000 | 185), Sent),
        ("IPv4 to IPv6, its last one, padded", across(1).without_udp_header().fragment(14, 370).padding(12), Sent),
        ("IPv4 to IPv6 alone, first fragment", to("239.1.1.11:5011").udp_length(1000).fragment(15, 0x2000), Sent),
        ("IPv4 to IPv6 alone, its later one", to("239.1.1.11:5011").without_udp_header().fragment(15, 0x1fff), Sent),
        ("IPv4 to IPv6 alone, first fragment without UDP checksum", to("239.1.1.11:5011").udp_length(1000).fragment(16, 0x2000).udp_checksum(Checksum::Zero), Unsent),
        ("IPv4 to IPv6, first fragment, VLAN 100", across(16).udp_length(1000).fragment(17, 0x2000).tag(Tag::with_priority(100, 3)), Sent),
        ("IPv6: last fragment of TCP", to_group6().fragment(18, 1).protocol(6), Passed),
        ("IPv6: later fragment of another group", to6("[ff3e::1:200]:1").fragment(18, 1), Passed),
        ("IPv6: hop-by-hop options", after(0, &ROUTER_ALERT), Refused(IpOptions)),
        ("IPv6: sixteen bytes of destination options", after(60, &[1; 15]), Refused(IpOptions)),
        ("IPv6: a route", after(43, &[0; 7]), Refused(IpOptions)),
        ("IPv6: options, tagged", tagged(Tag::vlan(100)).extension(60, &[0; 7]), Refused(IpOptions)),
        ("IPv6: options of another group", to6("[ff3e::1:200]:5001").extension(60, &[0; 7]), Passed),
        ("IPv6: options of TCP", after(60, &[0; 7]).protocol(6), Passed),
        ("IPv6: two extension headers", after(0, &ROUTER_ALERT).extension(60, &[0; 7]), OnInput(IpOptions)),
        ("IPv6: a fragment with options", to_group6().fragment(18, 0x2000).extension(60, &[0; 7]), OnInput(Fragment)),
        ("IPv6: options that are longer than all", carrying6(0).extension(60, &[9; 7]), OnInput(IpOptions)),
        ("IPv6: half an extension header", after(60, &[0; 7]).total_length(4), OnInput(BadIpHeader)),
        // Cut off.
        ("IPv6: cut in the payload", to_group6().cut_to(14 + 40 + 8 + 10), Refused(Truncated)),
        ("IPv6: cut after the ports", to_group6().cut_to(14 + 40 + 4), Refused(Truncated)),
        ("IPv6: cut in the ports", to_group6().cut_to(14 + 40 + 3), OnInput(Truncated)),
        ("IPv6: cut after the IP header", to_group6().cut_to(14 + 40), OnInput(Truncated)),
        ("IPv6: cut in the IP header", to_group6().cut_to(14 + 39), Passed),
        ("IPv6: cut in an extension header", after(60, &[0; 7]).cut_to(14 + 40 + 7), OnInput(Truncated)),
        ("IPv6: cut after an extension header's ports", after(60, &[0; 7]).cut_to(14 + 48 + 4), Refused(Truncated)),
        ("IPv6: cut after tagged ports", tagged(Tag::vlan(100)).cut_to(18 + 40 + 4), Refused(Truncated)),
    ];
    rows.into_iter().map(|(what, frame, verdict)| Row { what, frame, delivery: Delivery::Whole, verdict })
}

/// A router alert (RFC 2711), filled up.
const ROUTER_ALERT: [u8; 7] = [0, 5, 2, 0, 0, 1, 0];

/// What only a sender on the same machine can deliver, a virtual one for instance. Segments are equal where an MTU lies
/// between them and a shorter last one: only a datapath that takes a run apart can send the last one alone.
fn offloaded() -> Vec<Row> {
    let unfinished = |frame: Frame| (frame.udp_checksum(Checksum::Partial), Delivery::Unfinished);
    let segments = |bytes, frame: Frame| (frame.udp_checksum(Checksum::Partial), Delivery::Segments(bytes));
    let rows = [
        ("checksum left to a device", unfinished(to_group()), Sent),
        ("checksum left to a device, odd", unfinished(carrying(3)), Sent),
        ("checksum left to a device, no payload", unfinished(carrying(0)), Sent),
        ("checksum left to a device, large", unfinished(carrying(1472)), Sent),
        ("checksum left to a device, tagged", unfinished(to_group().tag(Tag::with_priority(100, 3))), Sent),
        ("checksum left to a device, too big", unfinished(carrying(1473)), Unsent),
        ("two equal segments", segments(100, carrying(200)), Sent),
        ("three segments and a short one", segments(500, carrying(1501)), Sent),
        ("sixty-four segments", segments(16, carrying(1024)), Sent),
        ("segments, tagged", segments(300, carrying(900).tag(Tag::vlan(100))), Sent),
        ("segments that are too big", segments(1473, carrying(2946)), Unsent),
        ("segments that one output can send", segments(73, to_small_mtus(219)), Sent),
        ("segments with a kept TTL", segments(100, to_kept_carrying(300).ttl(2).traffic_class(46 << 2)), Sent),
        ("segments whose TTL is too small", segments(100, to_kept_carrying(200).ttl(0)), Unsent),
        ("segments to another group", segments(10, to("239.1.1.200:5001")), Passed),
        ("IPv6: checksum left to a device", unfinished(to_group6()), Sent),
        ("IPv6: checksum left to a device, odd", unfinished(carrying6(3)), Sent),
        ("IPv6: checksum left to a device, no payload", unfinished(carrying6(0)), Sent),
        ("IPv6: checksum left to a device, tagged", unfinished(to_group6().tag(Tag::with_priority(100, 3))), Sent),
        ("IPv6: checksum left to a device, too big", unfinished(carrying6(1473)), Unsent),
        ("IPv4 to IPv6, checksum left to a device", unfinished(across(100)), Sent),
        ("IPv4 to IPv6, checksum left to a device, odd", unfinished(across(3)), Sent),
        ("IPv6: two equal segments", segments(100, carrying6(200)), Sent),
        ("IPv6: three segments and a short one", segments(500, carrying6(1501)), Sent),
        ("IPv6: segments, tagged", segments(300, carrying6(900).tag(Tag::vlan(100))), Sent),
        ("IPv6: segments that fit as IPv4 only", segments(1460, carrying6(2920)), Sent),
        ("IPv6: segments that are too big", segments(1473, carrying6(2946)), Unsent),
        ("IPv4 to IPv6, segments", segments(200, across(600)), Sent),
        ("IPv4 to IPv6, segments and a short one", segments(200, across(601)), Sent),
        (
            "segments of a source that is not listed",
            segments(1, stranger()),
            OnInput(mcr_wire::DropReason::SourceNotListed),
        ),
        (
            "segments from our own address",
            segments(100, carrying(300).source_mac(OUR_MAC)),
            Refused(mcr_wire::DropReason::Loop),
        ),
    ];
    rows.into_iter().map(|(what, (frame, delivery), verdict)| Row { what, frame, delivery, verdict }).collect()
}

fn to_group() -> Frame {
    Frame::udp(DEVICE, GROUP, b"a payload of some bytes".to_vec())
}

pub(super) fn carrying(bytes: usize) -> Frame {
    Frame::udp(DEVICE, GROUP, payload(bytes))
}

/// The first fragment of a datagram with this identification.
pub(super) fn first(identification: u16) -> Frame {
    of_more(carrying(24), 0x2000).identification(identification)
}

/// A later one, with this word of flags and offset.
fn later(identification: u16, flags_and_offset: u16) -> Frame {
    carrying(24).without_udp_header().identification(identification).flags_and_offset(flags_and_offset)
}

/// As [`first`], of IPv6.
fn first6(identification: u32) -> Frame {
    carrying6(24).udp_length(1000).fragment(identification, 0x2000)
}

/// As [`later`], of IPv6.
fn later6(identification: u32, place: u16) -> Frame {
    carrying6(24).without_udp_header().fragment(identification, place)
}

/// A fragment of a datagram that is longer than what is there.
fn of_more(frame: Frame, flags_and_offset: u16) -> Frame {
    frame.udp_length(1000).flags_and_offset(flags_and_offset)
}

/// In VLAN 100 within 7.
fn in_stack(frame: Frame) -> Frame {
    frame.tag(Tag::service(7)).tag(Tag::vlan(100))
}

pub(super) fn payload(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| (i * 7 + i / 251) as u8).collect()
}

fn jumbo(bytes: usize) -> Frame {
    Frame::udp(DEVICE, "239.1.1.16:5016", payload(bytes))
}

fn jumbo6(bytes: usize) -> Frame {
    Frame::udp(DEVICE6, "[ff3e::1:8]:5009", payload(bytes))
}

fn to(destination: &str) -> Frame {
    Frame::udp(DEVICE, destination, b"elsewhere".to_vec())
}

fn to_kept() -> Frame {
    to_kept_carrying(31)
}

fn to_kept_carrying(bytes: usize) -> Frame {
    Frame::udp(DEVICE, "239.1.1.9:5009", vec![9; bytes])
}

fn to_group6() -> Frame {
    Frame::udp(DEVICE6, GROUP6, b"a payload of some bytes".to_vec())
}

fn to_kept6() -> Frame {
    to6("[ff3e::1:6]:5007")
}

pub(super) fn carrying6(bytes: usize) -> Frame {
    Frame::udp(DEVICE6, GROUP6, payload(bytes))
}

fn to6(destination: &str) -> Frame {
    Frame::udp(DEVICE6, destination, b"elsewhere".to_vec())
}

fn small6(bytes: usize) -> Frame {
    Frame::udp(DEVICE6, "[ff3e::1:3]:5003", vec![7; bytes])
}

fn stranger6() -> Frame {
    Frame::udp("[fd00:dead::57]:1", "[ff3e::1:2]:5002", b"two".to_vec())
}

/// From IPv4 to both.
pub(super) fn across(bytes: usize) -> Frame {
    Frame::udp(DEVICE, "239.1.1.12:5012", payload(bytes))
}

fn to_small_mtus(bytes: usize) -> Frame {
    Frame::udp(DEVICE, "239.1.1.6:5006", vec![7; bytes])
}

fn from_excluded(host: u8) -> Frame {
    Frame::udp(&format!("192.168.168.{host}:1"), "239.1.1.13:5013", b"excluded".to_vec())
}

fn in_prefix(source: &str) -> Frame {
    Frame::udp(&format!("{source}:1"), "239.1.1.20:5020", b"prefix".to_vec())
}

fn not_in_prefix(source: &str) -> Frame {
    Frame::udp(&format!("{source}:1"), "239.1.1.21:5021", b"prefix".to_vec())
}

fn in_prefix6(source: &str) -> Frame {
    Frame::udp(&format!("[{source}]:1"), "[ff3e::1:20]:5020", b"prefix".to_vec())
}

fn not_in_prefix6(source: &str) -> Frame {
    Frame::udp(&format!("[{source}]:1"), "[ff3e::1:21]:5021", b"prefix".to_vec())
}

fn stranger() -> Frame {
    Frame::udp("192.168.168.57:1", "239.1.1.2:5002", b"two".to_vec())
}

/// A payload that makes the sum over everything come out as `target` after the rewrite or before.
fn with_checksum(target: u16) -> Frame {
    balanced(DEVICE, GROUP, target)
}

fn with_checksum6(target: u16) -> Frame {
    balanced(DEVICE6, GROUP6, target)
}

fn balanced(from: &str, to: &str, target: u16) -> Frame {
    let frame = |word: u16| Frame::udp(from, to, word.to_be_bytes().to_vec());
    let right = |word| {
        let bytes = frame(word).bytes();
        let field = &bytes[bytes.len() - 4..];
        u16::from_be_bytes([field[0], field[1]])
    };
    frame((0..=u16::MAX).find(|word| right(*word) == target).unwrap())
}

/// The options of a header: `words` of no operation.
fn options(words: usize) -> Vec<u8> {
    vec![1; words * 4]
}
