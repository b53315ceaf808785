//! What a flow is.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::announcement::Announcement;
use crate::message;
use crate::mpeg_ts::{self, Programs};
use crate::rtp::{Evidence, Media, Rtp};

/// What a flow is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kind {
    /// Nothing known.
    Plain,
    /// RTP.
    Rtp(Rtp),
    /// Reports on a flow of RTP.
    Rtcp,
    /// An MPEG transport stream without RTP.
    MpegTs(Programs),
    /// Announcements of sessions.
    Sap(#[serde(skip)] Announcement),
    /// Multicast DNS.
    Mdns {
        /// What was asked or told.
        name: String,
    },
    /// Link-local name resolution.
    Llmnr {
        /// What was asked or told.
        name: String,
    },
    /// UPnP's discovery.
    Ssdp {
        /// What is told or looked for.
        target: String,
    },
    /// WS-Discovery: ONVIF cameras, printers.
    WsDiscovery,
    /// The precision time protocol.
    Ptp {
        /// 1 or 2.
        version: u8,
        /// Its domain.
        #[serde(skip_serializing_if = "Option::is_none")]
        domain: Option<u8>,
    },
    /// EtherNet/IP implicit messages.
    EthernetIp,
    /// OPC UA PubSub (UADP).
    OpcUaPubSub,
    /// Routable GOOSE (IEC 61850-90-5).
    RoutableGoose,
    /// Routable sampled values (IEC 61850-90-5).
    RoutableSampledValues,
    /// DDS.
    Rtps {
        /// Who made the software.
        #[serde(skip_serializing_if = "Option::is_none")]
        vendor: Option<&'static str>,
    },
    /// Light control (ANSI E1.31).
    Sacn {
        /// Who sends.
        source: String,
        /// Which lights.
        universe: u16,
    },
    /// Made by `mcr send`.
    TestTraffic,
}

impl Kind {
    /// One word or two, for a table and for names.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Rtp(Rtp { media, .. }) => match media {
                Media::RawVideo => "ST 2110-20",
                Media::PcmAudio { .. } => "ST 2110-30",
                Media::AncillaryData => "ST 2110-40",
                Media::MpegTs(_) => "RTP MPEG-TS",
                Media::Unknown | Media::Registered { .. } => "RTP",
            },
            Self::Rtcp => "RTCP",
            Self::MpegTs(_) => "MPEG-TS",
            Self::Sap(_) => "SAP",
            Self::Mdns { .. } => "mDNS",
            Self::Llmnr { .. } => "LLMNR",
            Self::Ssdp { .. } => "SSDP",
            Self::WsDiscovery => "WS-Discovery",
            Self::Ptp { .. } => "PTP",
            Self::EthernetIp => "EtherNet/IP",
            Self::OpcUaPubSub => "OPC UA",
            Self::RoutableGoose => "GOOSE",
            Self::RoutableSampledValues => "sampled values",
            Self::Rtps { .. } => "DDS",
            Self::Sacn { .. } => "sACN",
            Self::TestTraffic => "mcr send",
        }
    }

    /// What more is known; empty when nothing is.
    pub fn detail(&self) -> String {
        match self {
            Self::Rtp(rtp) => rtp.to_string(),
            Self::MpegTs(programs) => programs.to_string(),
            Self::Sap(announcement) => announcement.session.clone(),
            Self::Mdns { name } | Self::Llmnr { name } => name.clone(),
            Self::Ssdp { target } => target.clone(),
            Self::Ptp { version, domain: Some(domain) } => format!("version {version}, domain {domain}"),
            Self::Ptp { version, domain: None } => format!("version {version}"),
            Self::Rtps { vendor } => vendor.unwrap_or_default().to_owned(),
            Self::Sacn { source, universe } => format!("universe {universe}, {source}"),
            Self::Plain
            | Self::Rtcp
            | Self::WsDiscovery
            | Self::EthernetIp
            | Self::OpcUaPubSub
            | Self::RoutableGoose
            | Self::RoutableSampledValues
            | Self::TestTraffic => String::new(),
        }
    }
}

impl fmt::Display for Rtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { payload_type, ssrc, clock_hz, media } = self;
        match media {
            Media::Unknown | Media::RawVideo | Media::AncillaryData => {}
            Media::PcmAudio { channels, bits, packet_samples } => {
                write!(f, "{channels} × {bits} bits, {packet_samples} samples, ")?;
            }
            Media::MpegTs(programs) if programs.programs.is_empty() => {}
            Media::MpegTs(programs) => write!(f, "{programs}, ")?,
            Media::Registered { encoding } => write!(f, "{encoding}, ")?,
        }
        write!(f, "type {payload_type}, SSRC {ssrc:08x}")?;
        match clock_hz {
            Some(clock) => write!(f, ", {} kHz", f64::from(*clock) / 1000.0),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Programs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.programs.iter().map(|(number, name)| format!("{number} {name}").trim_end().to_owned());
        match shown.collect::<Vec<_>>().as_slice() {
            [] => Ok(()),
            [one] => write!(f, "program {one}"),
            several => write!(f, "programs {}", several.join(", ")),
        }
    }
}

/// What the payloads of one flow say.
#[derive(Debug, Clone, Default)]
pub struct Recogniser {
    message: Option<Kind>,
    rtp: Evidence,
    /// Payloads that are whole packets of a transport stream, and that are not.
    transport: (u64, u64),
    programs: Programs,
}

impl Recogniser {
    /// Looks at one more payload, sent to `port`, that came at `at` after some beginning.
    pub fn see(&mut self, port: u16, payload: &[u8], at: Duration) {
        if !self.rtp.is_rtp()
            && let Some(kind) = message::recognise(port, payload)
        {
            self.message = Some(kind);
            return;
        }
        if mpeg_ts::is_transport(payload) {
            self.transport.0 += 1;
            self.programs.see(payload);
            return;
        }
        self.transport.1 += 1;
        self.rtp.see(payload, at);
    }

    /// What they are.
    pub fn kind(&self) -> Kind {
        let is_transport = self.transport.0 > self.transport.1;
        match (self.rtp.conclude(), &self.message) {
            (Some(rtp), _) => Kind::Rtp(rtp),
            (None, Some(message)) => message.clone(),
            (None, None) if is_transport => Kind::MpegTs(self.programs.clone()),
            (None, None) => Kind::Plain,
        }
    }
}
