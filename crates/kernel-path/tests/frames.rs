//! The table of frames that all datapaths share, through the program: the same verdict, bytes and counters.

mod stand;

use mcr_testbed::Frame;
use mcr_testbed::table::{self, Delivery, OUR_MAC, Outcome, Row, Verdict};
use mcr_wire::{DropReason, MacAddr};
use stand::{Expected, Stand};

#[test]
fn every_row_is_as_mcr_wire_has_it() {
    every_row_agrees(Stand::new(2));
}

#[test]
fn every_row_is_as_mcr_wire_has_it_with_the_program_at_the_driver_in_front() {
    every_row_agrees(Stand::at_driver(2));
}

fn every_row_agrees(mut stand: Stand) {
    stand.our_macs = vec![MacAddr::new(OUR_MAC.0)];
    stand.install(table::relays());
    let rows = table::rows(stand.net.relay_input().mac());
    let relay = stand.net.relay().clone();
    relay.run(|| {
        // A single run can't deliver the others, and the kernel runs nothing on less than an IPv6 header, nor on more than a page.
        let is_runnable = |row: &&Row| {
            let bytes = row.frame.bytes().len();
            row.delivery == Delivery::Whole && bytes < 3500 && (bytes >= 14 + 40 || !row.frame.is_ipv6())
        };
        let runnable: Vec<&Row> = rows.iter().filter(is_runnable).collect();
        println!("{} rows of {}", runnable.len(), rows.len());
        assert!(runnable.len() > 250, "{} rows", runnable.len());
        for row in runnable {
            let expected = stand.agree(row.what, &row.frame.bytes());
            assert_is_the_row(&expected, row, &stand);
        }
        stand.assert_silence();
    });
}

/// The stand compares the program with mcr-wire; this compares mcr-wire with the table.
#[track_caller]
fn assert_is_the_row(expected: &Expected, row: &Row, stand: &Stand) {
    let on_input = match row.verdict {
        Verdict::OnInput(reason) => Some(reason),
        Verdict::Sent | Verdict::Unsent | Verdict::Refused(_) | Verdict::Passed => None,
    };
    assert_eq!(expected.on_input, on_input, "{}", row.what);
    let mut copies = expected.copies.iter();
    let charges = row.charges(&stand.relays);
    assert_eq!(expected.charged.len(), charges.len(), "{}", row.what);
    for (charged, charge) in expected.charged.iter().zip(charges) {
        let got = (charged.relay, charged.packets, charged.bytes);
        assert_eq!(got, (charge.relay, charge.packets, charge.bytes), "{}", row.what);
        for (outcome, wanted) in charged.outputs.iter().zip(charge.outcomes) {
            match wanted {
                Outcome::Dropped(reason) => assert_eq!(*outcome, stand::Outcome::Dropped(reason), "{}", row.what),
                Outcome::Sent { lan, frames, bytes } => {
                    assert_eq!(*outcome, stand::Outcome::Sent { bytes }, "{}", row.what);
                    for frame in frames {
                        assert_eq!(copies.next(), Some(&(lan, frame)), "{}", row.what);
                    }
                }
            }
        }
    }
    assert_eq!(copies.next(), None, "{}", row.what);
}

/// The kernel can not take it apart, so nobody may send it.
#[test]
fn an_aggregate_of_another_kind_is_refused() {
    let mut stand = Stand::new(2);
    stand.install(table::relays());
    let relay = stand.net.relay().clone();
    relay.run(|| {
        let frame = Frame::udp("192.168.168.55:5000", "239.1.1.1:5001", vec![7; 1000]);
        let run = stand.run(&frame.bytes(), 500);
        assert_eq!(run.verdict, stand::DROP);
        let outputs = &stand.totals().outputs[0];
        assert!(outputs.iter().all(|output| output.dropped.get(DropReason::GsoUnsupported) == 1), "{outputs:?}");
        stand.assert_silence();
    });
}
