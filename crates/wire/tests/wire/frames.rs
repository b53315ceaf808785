//! Frames made by somebody else's code (etherparse), with the means to spoil them.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use etherparse::{EtherType, IpFragOffset, IpNumber, Ipv4Header, UdpHeader, VlanId};
use mcr_wire::checksum::Sum;

/// The device that nobody can route to.
pub(crate) const DEVICE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 168, 55));
/// The group it sends to.
pub(crate) const GROUP: IpAddr = IpAddr::V4(Ipv4Addr::new(239, 1, 1, 1));
/// And the port.
pub(crate) const PORT: u16 = 5001;

/// What a frame is made of.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    pub(crate) tags: Vec<(u16, u16)>,
    pub(crate) ethertype: EtherType,
    pub(crate) ip: Ipv4Header,
    pub(crate) udp: UdpHeader,
    pub(crate) payload: Vec<u8>,
}

impl Recipe {
    /// A sound datagram from the device to the group, untagged.
    pub(crate) fn new(payload: &[u8]) -> Self {
        let (IpAddr::V4(from), IpAddr::V4(to)) = (DEVICE, GROUP) else { unreachable!("both are IPv4") };
        Self::between(SocketAddrV4::new(from, 4000), SocketAddrV4::new(to, PORT), payload)
    }

    /// A sound datagram, untagged.
    pub(crate) fn between(source: SocketAddrV4, destination: SocketAddrV4, payload: &[u8]) -> Self {
        let length = (UdpHeader::LEN + payload.len()) as u16;
        let mut ip =
            Ipv4Header::new(length, 1, IpNumber::UDP, source.ip().octets(), destination.ip().octets()).unwrap();
        ip.identification = 0x1234;
        let udp = UdpHeader::with_ipv4_checksum(source.port(), destination.port(), &ip, payload)
            .expect("a payload that fits");
        Self { tags: Vec::new(), ethertype: EtherType::IPV4, ip, udp, payload: payload.to_vec() }
    }

    /// Puts a tag in front of those that are there.
    pub(crate) fn tagged(mut self, tpid: u16, vlan: u16, priority: u16) -> Self {
        assert!(vlan <= VlanId::MAX_U16 && priority < 16);
        self.tags.insert(0, (tpid, priority << 12 | vlan));
        self
    }

    /// Applies a change to the IP header.
    pub(crate) fn ip(mut self, change: impl FnOnce(&mut Ipv4Header)) -> Self {
        change(&mut self.ip);
        self
    }

    /// Applies a change to the UDP header.
    pub(crate) fn udp(mut self, change: impl FnOnce(&mut UdpHeader)) -> Self {
        change(&mut self.udp);
        self
    }

    /// Makes it a fragment at `offset` units of 8 bytes.
    pub(crate) fn fragment(self, offset: u16, more_fragments: bool) -> Self {
        self.ip(|ip| {
            ip.dont_fragment = false;
            ip.more_fragments = more_fragments;
            ip.fragment_offset = IpFragOffset::try_new(offset).unwrap();
        })
    }

    /// Where the IP header starts.
    pub(crate) fn ip_at(&self) -> usize {
        14 + 4 * self.tags.len()
    }

    /// The bytes, with a right IP checksum.
    pub(crate) fn frame(&self) -> Vec<u8> {
        let mut frame = vec![0x01, 0, 0x5e, 1, 1, 1, 2, 0, 0, 0, 0, 0x55];
        for (tpid, tci) in &self.tags {
            frame.extend(tpid.to_be_bytes());
            frame.extend(tci.to_be_bytes());
        }
        frame.extend(self.ethertype.0.to_be_bytes());
        self.ip.write(&mut frame).unwrap();
        self.udp.write(&mut frame).unwrap();
        frame.extend(&self.payload);
        frame
    }

    /// The bytes with some of the IP header replaced, and a right IP checksum over the result.
    pub(crate) fn frame_with_ip_bytes(&self, at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut frame = self.frame();
        let ip = self.ip_at();
        frame[ip + at..ip + at + bytes.len()].copy_from_slice(bytes);
        frame[ip + 10..ip + 12].fill(0);
        let header = ip..ip + self.ip.header_len();
        let checksum = Sum::default().add_bytes(&frame[header]).checksum();
        frame[ip + 10..ip + 12].copy_from_slice(&checksum.to_be_bytes());
        frame
    }
}
