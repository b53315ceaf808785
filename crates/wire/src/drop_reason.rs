//! The named doors by which a packet leaves without being sent: each with one sentence of meaning and one of remedy.

use core::fmt;

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident, $name:literal, $meaning:literal, $remedy:literal;)*) => {
        /// Why a packet was not sent.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum DropReason {
            $($(#[$doc])* $variant,)*
        }

        impl DropReason {
            /// Every reason, in the order of [`DropReason::index`].
            pub const ALL: [DropReason; Self::COUNT] = [$(DropReason::$variant,)*];
            /// How many there are.
            pub const COUNT: usize = [$($name,)*].len();

            /// The word that the API, the CLI and the metrics use.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What happened, in a sentence without a final stop.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)* }
            }

            /// What to do about it, in a sentence without a final stop.
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$variant => $remedy,)* }
            }
        }
    };
}

reasons! {
    /// Shorter than its headers say.
    Truncated, "truncated", "the frame ends before its headers say that it does",
        "look for a faulty sender, cable or capture length";
    /// Not a valid IP header.
    BadIpHeader, "bad_ip_header", "the IP header contradicts itself",
        "look for a faulty sender";
    /// The IPv4 header checksum is wrong.
    BadIpChecksum, "bad_ip_checksum", "the IPv4 header checksum is wrong",
        "look for a faulty sender, switch or cable";
    /// A fragment that can not be relayed.
    Fragment, "fragment", "a fragment whose first one was not relayed before it, or with options or more extension headers, or without a UDP checksum for an output of IPv6",
        "have the sender use datagrams that fit its MTU, or raise the MTU on its side";
    /// The IP header has options, or extension headers.
    IpOptions, "ip_options", "the IP header has options or extension headers, which are not carried over",
        "switch the options off at the sender";
    /// The UDP length is not that of the IP packet.
    BadUdpLength, "bad_udp_length", "the UDP length does not agree with the IP length",
        "look for a faulty sender";
    /// The UDP checksum is wrong, or missing where there has to be one.
    BadUdpChecksum, "bad_udp_checksum", "the UDP checksum is wrong, or missing in IPv6, so the payload may be damaged",
        "look for a faulty sender, switch or cable";
    /// A super-frame that is not UDP segmentation.
    GsoUnsupported, "gso_unsupported", "the frame is an aggregate that can not be split into datagrams",
        "switch receive offloads off on the input interface (`ethtool -K … gro off lro off`)";
    /// It was sent by this host.
    Loop, "loop", "the frame carries our own source address: it came back to us",
        "look for a bridge or switch loop, or for a relay elsewhere that sends it back";
    /// It belongs to no relay.
    NoRelay, "no_relay", "the frame belongs to no relay",
        "nothing, unless a relay should match: compare group, port and VLAN with `mcr list`";
    /// Its source is not listed by any relay of its destination.
    SourceNotListed, "source_not_listed", "no relay of this destination takes the packet's source",
        "add the source to the relay's input if it should be relayed, or no longer exclude it";
    /// The ring was full.
    RingFull, "ring_full", "packets came faster than they could be relayed, and the ring was full",
        "lower the load, give the daemon a core of its own, or spread inputs over interfaces";
    /// Larger than the output's MTU.
    TooBig, "too_big", "the packet is larger than the MTU of the output, and is never fragmented silently",
        "raise the MTU of the output interface, have the sender use smaller datagrams, or set fragment = true on the output";
    /// No link-layer address for a unicast output.
    NoNeighbour, "no_neighbour", "the link-layer address of the receiver or of its router is not known",
        "check that the receiver is up, and that a route leads to it";
    /// The output interface does not exist.
    OutputMissing, "output_missing", "the output interface does not exist or is not open",
        "create it or correct its name; the output starts by itself";
    /// The output interface is down.
    OutputDown, "output_down", "the output interface is down or has no link",
        "set it up or check its cable; the output goes on by itself";
    /// The egress queue or socket buffer was full.
    OutputQueueFull, "output_queue_full", "packets were relayed faster than the output interface sends",
        "use a faster interface, shape the source, or raise the queue length of the output";
    /// No source address to send from.
    NoSourceAddress, "no_source_address", "the output interface has no address of the output's family to send from",
        "add one, or set source on the output; `mcr show` says why an own source is not usable";
    /// The kernel refused the packet for another reason.
    SendFailed, "send_failed", "the kernel refused to send the packet",
        "look into the daemon's log for the error";
    /// The copy would leave with a time to live of zero.
    TtlExpired, "ttl_expired", "the packet arrived with a TTL that leaves its copy none, and the output keeps or decrements it",
        "have the sender use a larger TTL, or set a ttl on the output";
    /// More than the cap of the relay or output allows.
    RateLimited, "rate_limited", "more came than max_packets_per_second or max_bits_per_second of the relay or output allows",
        "find out why the sender sends so much, or raise the cap";
}

impl DropReason {
    /// Its place in a table of counters, below [`DropReason::COUNT`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The reason of that [`name`](DropReason::name).
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_and_names_are_one_to_one() {
        for (i, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), i);
            assert_eq!(DropReason::from_name(reason.name()), Some(reason));
            assert!(reason.name().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{reason}");
        }
        assert_eq!(DropReason::from_name("nothing"), None);
    }
}
