//! What users rely on, through the real binaries, in network namespaces, asserted at the receiver. Needs root.

/// The same tests with each datapath: `packet::name`, `tcx::name` and `xdp::name`.
macro_rules! for_each_datapath {
    ($($test:ident),+ $(,)?) => {
        mod packet {
            $(#[test] fn $test() { super::$test(mcr_model::Datapath::Packet); })+
        }
        mod tcx {
            $(#[test] fn $test() { super::$test(mcr_model::Datapath::Tcx); })+
        }
        mod xdp {
            $(#[test] fn $test() { super::$test(mcr_model::Datapath::Xdp); })+
        }
    };
}

/// The same tests with the datapaths that go on without their daemon: `tcx::name` and `xdp::name`.
macro_rules! for_each_in_the_kernel {
    ($($test:ident),+ $(,)?) => {
        mod tcx {
            $(#[test] fn $test() { super::$test(mcr_model::Datapath::Tcx); })+
        }
        mod xdp {
            $(#[test] fn $test() { super::$test(mcr_model::Datapath::Xdp); })+
        }
    };
}

mod api;
mod bad_input;
mod caps;
mod captures;
mod churn;
mod clients;
mod confinement;
mod discover;
mod foreground;
mod frames;
mod generator;
mod headers;
mod identical;
mod interfaces;
mod ipv6;
mod killed;
mod kinds;
mod local;
mod loops;
mod main_job;
mod managed;
mod membership;
mod moves;
mod on_demand;
#[cfg(feature = "otlp")]
mod otlp;
mod overload;
mod own_source;
mod player;
mod players;
mod queriers;
mod queues;
mod ranges;
mod readme;
mod reload;
mod remote;
mod reports;
mod resources;
mod scale;
mod seen;
mod senders;
mod service;
mod soak;
mod state;
mod store;
mod top;
mod traffic;
mod troubles;
