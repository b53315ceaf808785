//! Cables between namespaces, and a bridge to plug several of them into.

use crate::interface::{Interface, Offload, Switch};
use crate::namespace::Namespace;

/// A cable: a veth pair with one end in each of two namespaces. It goes with either namespace, or with either end.
#[derive(Debug, Clone)]
pub struct Veth {
    near: Interface,
    far: Interface,
}

impl Veth {
    /// Lays a cable, both ends up, with receive gathering (and so NAPI, which redirecting XDP programs need) on at both.
    /// Whether ordinary sending uses it is decided by [`Interface::queue_at_peer`].
    ///
    /// # Panics
    /// When a name is taken.
    #[track_caller]
    pub fn between(near: &Namespace, near_name: &str, far: &Namespace, far_name: &str) -> Veth {
        Veth::with_queues(near, near_name, far, far_name, 1)
    }

    /// As [`Veth::between`], with this many queues at each end in each direction.
    ///
    /// # Panics
    /// When a name is taken.
    #[track_caller]
    pub fn with_queues(near: &Namespace, near_name: &str, far: &Namespace, far_name: &str, queues: u32) -> Veth {
        let count = format!("numtxqueues {queues} numrxqueues {queues}");
        let peer = format!("peer name {far_name} {count} netns {}", far.name());
        near.ip(&format!("link add name {near_name} {count} type veth {peer}"));
        let veth = Veth { near: Interface::of(near, near_name), far: Interface::of(far, far_name) };
        for end in [&veth.near, &veth.far] {
            end.up();
            // Not before: the kernel makes the peer a target of redirecting programs only when an interface that is up begins to
            // gather (`veth_set_features` in drivers/net/veth.c).
            end.offload(Offload::Gather, Switch::On);
        }
        veth
    }

    /// The end in the namespace named first.
    pub fn near(&self) -> &Interface {
        &self.near
    }

    /// The end in the namespace named second.
    pub fn far(&self) -> &Interface {
        &self.far
    }

    /// Sets the largest IP packet, in bytes, of both ends.
    #[track_caller]
    pub fn set_mtu(&self, mtu_bytes: u32) {
        self.near.set_mtu(mtu_bytes);
        self.far.set_mtu(mtu_bytes);
    }

    /// Finishing of checksums, and with it cutting of super-frames, by the device, at both ends. Off: frames travel as on a real wire,
    /// with finished checksums; on (as made): local senders leave a partial checksum in them.
    #[track_caller]
    pub fn offload_sending(&self, switch: Switch) {
        self.near.offload(Offload::SendChecksum, switch);
        self.far.offload(Offload::SendChecksum, switch);
    }

    /// Removes both ends.
    #[track_caller]
    pub fn delete(self) {
        self.near.delete();
    }
}

/// A switch in a namespace.
#[derive(Debug, Clone)]
pub struct Bridge {
    interface: Interface,
}

/// Whether a bridge watches IGMP and sends groups only to the ports that asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Snooping {
    /// Groups go where they were asked for.
    On,
    /// Groups are flooded.
    Off,
}

impl Bridge {
    /// Makes a bridge, up and without ports.
    #[track_caller]
    pub fn new(namespace: &Namespace, name: &str, snooping: Snooping) -> Bridge {
        let snooping = match snooping {
            Snooping::On => 1,
            Snooping::Off => 0,
        };
        namespace.ip(&format!("link add name {name} type bridge mcast_snooping {snooping}\nlink set dev {name} up"));
        Bridge { interface: Interface::of(namespace, name) }
    }

    /// The bridge's own interface.
    pub fn interface(&self) -> &Interface {
        &self.interface
    }

    /// Makes an interface of the same namespace a port.
    #[track_caller]
    pub fn plug(&self, port: &Interface) {
        self.interface.namespace().ip(&format!("link set dev {} master {}", port.name(), self.interface.name()));
    }
}
