//! The screen as a function of what is known, and what keys do.

use std::time::{Duration, Instant};

use insta::assert_snapshot;
use mcr_model::Event;
use mcr_model::status::{DaemonStatus, RelayHistory, RelayStatus};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::{Value, json};

use super::board::{Board, Link, Look, News, Page, Wish};
use super::draw::draw;
use super::order::Order;
use crate::view::screen::Ink;

const SMALL: (u16, u16) = (80, 24);
const LARGE: (u16, u16) = (132, 40);

fn status() -> DaemonStatus {
    let status = json!({"version": "0.1.0", "pid": 4711, "uptime_seconds": 7300.0, "relays": {}, "keeper_pid": 4712});
    serde_json::from_value(status).expect("a status")
}

/// A relay that receives so many packets of 1,250 bytes per second.
fn relay(name: &str, state: &str, rate: f64, dropped: u64) -> Value {
    let traffic = json!({"packets": 1_234_567, "bytes": 1_577_776_626, "packets_per_second": rate,
                         "bits_per_second": rate * 10_000.0});
    json!({
        "name": name, "origin": "api", "state": state, "reason": "packets arrive and leave", "datapath": "tcx",
        "datapath_reason": "lan1 takes no redirected frames, so xdp can not be used", "from": "eth0:239.1.1.1:5001",
        "received": traffic, "last_packet_seconds": 0.002,
        "outputs": [{"to": "eth1:239.2.2.2:6001", "ok": true, "source": "10.1.0.1", "sent": traffic,
                     "dropped_packets": dropped, "dropped": {"too_big": dropped}}],
        "relay": {"name": name, "input": {"interface": "eth0", "group": "239.1.1.1", "port": 5001},
                  "output": [{"interface": "eth1", "group": "239.2.2.2", "port": 6001}]},
    })
}

fn relays(dropped: u64) -> Vec<RelayStatus> {
    let mut plc = relay("plc", "pending", 0.0, 0);
    plc["received"] = json!({"packets": 0, "bytes": 0});
    (plc["from"], plc["reason"]) = ("ot0:192.168.168.55@239.5.5.5:7000".into(), "interface ot0 does not exist".into());
    plc["remedy"] = "it starts by itself when ot0 is there".into();
    let mut studio = relay("studio-a", "degraded", 20_000.0, dropped);
    studio["reason"] = "an output drops packets".into();
    let all = [relay("camera-3", "flowing", 12_345.6, 0), plc, studio, relay("dut-7", "silent", 0.0, 0)];
    all.map(|relay| serde_json::from_value(relay).expect("a relay")).into()
}

fn events() -> Vec<Event> {
    let events = json!([
        {"id": "1-1", "time": "2026-11-27T04:31:00.250Z", "kind": "relay-created", "relay": "studio-a", "origin": "api"},
        {"id": "1-2", "time": "2026-11-27T04:31:01.000Z", "kind": "interface-down", "interface": "ot0"},
        {"id": "1-3", "time": "2026-11-27T04:31:02.500Z", "kind": "drops-started", "relay": "studio-a",
         "output": "eth1:239.2.2.2:6001", "reason": "too_big", "packets": 7},
    ]);
    serde_json::from_value(events).expect("events")
}

fn look(dropped: u64, events: Vec<Event>) -> News {
    let history = RelayHistory {
        relay: "studio-a".into(),
        step_seconds: 1,
        start: "2026-11-27T04:30:00.000Z".into(),
        received_packets: (0..90).map(|second| 500 * (second % 41)).collect(),
        received_bytes: (0..90).map(|second| 500 * 1_250 * (second % 41)).collect(),
        dropped_packets: (0..90).map(|second| if second > 80 { 50 } else { 0 }).collect(),
    };
    News::Seen(Box::new(Look { status: status(), relays: relays(dropped), events: Ok(events), history: Some(history) }))
}

/// After two looks that are a second apart, and when that was.
fn board() -> (Board, Instant) {
    let start = Instant::now();
    let mut board = Board::new("/run/mcr/mcr.sock".into());
    board.hear(look(7, events()), start);
    let now = start + Duration::from_secs(1);
    board.hear(look(57, Vec::new()), now);
    (board, now)
}

fn screen((columns, rows): (u16, u16), board: &Board, now: Instant) -> String {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).expect("a terminal");
    terminal.draw(|frame| draw(board, frame, now, Ink::Colour)).expect("it is drawn");
    terminal.backend().to_string()
}

fn press(board: &mut Board, keys: &[KeyCode]) -> Wish {
    let press = |key: &KeyCode| board.press(KeyEvent::new(*key, KeyModifiers::NONE));
    keys.iter().map(press).last().expect("at least one key")
}

fn names(board: &Board) -> Vec<&str> {
    board.shown().iter().map(|relay| relay.name.as_str()).collect()
}

#[test]
fn the_list() {
    let (board, now) = board();
    assert_snapshot!("list_80", screen(SMALL, &board, now));
    assert_snapshot!("list_132", screen(LARGE, &board, now));
}

#[test]
fn a_relay() {
    let (mut board, now) = board();
    assert_eq!(press(&mut board, &[KeyCode::Enter]), Wish::Look);
    assert_eq!(board.history_of(), Some("studio-a"));
    board.hear(look(57, Vec::new()), now);
    assert_snapshot!("relay_80", screen(SMALL, &board, now));
    assert_snapshot!("relay_132", screen(LARGE, &board, now));
}

#[test]
fn help_and_events() {
    let (mut board, now) = board();
    press(&mut board, &[KeyCode::Char('?')]);
    assert_snapshot!("help", screen(SMALL, &board, now));
    press(&mut board, &[KeyCode::Esc, KeyCode::Char('e')]);
    assert_snapshot!("events", screen(SMALL, &board, now));
}

#[test]
fn a_daemon_that_goes_and_comes_back_is_told() {
    let (mut board, now) = board();
    let later = |seconds| now + Duration::from_secs(seconds);
    let gone = || News::Lost("no daemon is running: there is no socket /run/mcr/mcr.sock".into());
    board.hear(gone(), later(1));
    board.hear(gone(), later(2));
    let line = |board: &Board, now| screen(SMALL, board, now).lines().nth(1).expect("a line").to_owned();
    let told = line(&board, later(13));
    assert!(told.contains("no daemon for 12 s, all this is from before: no daemon is running"), "{told}");
    assert_eq!(names(&board).len(), 4, "what was known stays");
    board.hear(look(57, Vec::new()), later(14));
    assert!(matches!(board.link, Link::Good));
    assert!(line(&board, later(15)).contains("the daemon answers again, after 13 s"));
    assert!(line(&board, later(60)).contains("4 relays"), "it is said for a while only");
}

#[test]
fn a_counter_that_begins_anew_is_no_rate() {
    let (mut board, now) = board();
    assert_eq!(board.drops_per_second("studio-a"), Some(50.0));
    board.hear(look(0, Vec::new()), now + Duration::from_secs(1));
    assert_eq!(board.drops_per_second("studio-a"), None);
    board.hear(look(20, Vec::new()), now + Duration::from_secs(3));
    assert_eq!(board.drops_per_second("studio-a"), Some(10.0));
}

#[test]
fn orders() {
    let (mut board, _) = board();
    let table = [
        ('r', ["studio-a", "camera-3", "dut-7", "plc"]),
        ('s', ["studio-a", "plc", "dut-7", "camera-3"]),
        ('n', ["camera-3", "dut-7", "plc", "studio-a"]),
        ('i', ["studio-a", "plc", "dut-7", "camera-3"]),
        ('d', ["studio-a", "camera-3", "dut-7", "plc"]),
    ];
    for (key, expected) in table {
        press(&mut board, &[KeyCode::Char(key)]);
        assert_eq!(names(&board), expected, "{key}");
    }
    let mut order = Order::Rate;
    for expected in [Order::BitRate, Order::State, Order::Drops, Order::Name, Order::Rate] {
        order = order.next();
        assert_eq!(order, expected);
    }
}

#[test]
fn the_cursor_stays_on_its_relay_and_the_filter_narrows() {
    let (mut board, now) = board();
    press(&mut board, &[KeyCode::Down, KeyCode::Char('n')]);
    let shown = board.shown();
    assert_eq!(shown[board.cursor(&shown)].name, "camera-3");
    press(&mut board, &[KeyCode::Char('/'), KeyCode::Char('Q'), KeyCode::Backspace]);
    press(&mut board, &"239.5 PEND".chars().map(KeyCode::Char).collect::<Vec<_>>());
    assert_eq!(names(&board), ["plc"]);
    assert_snapshot!("filter", screen(SMALL, &board, now));
    press(&mut board, &[KeyCode::Enter, KeyCode::Enter]);
    assert_eq!(board.page, Page::Relay("plc".into()));
    press(&mut board, &[KeyCode::Esc, KeyCode::Esc]);
    assert_eq!((names(&board).len(), &board.page), (4, &Page::Relays));
}

#[test]
fn a_paused_screen_stands_still() {
    let (mut board, now) = board();
    press(&mut board, &[KeyCode::Char(' ')]);
    let before = screen(SMALL, &board, now);
    assert!(before.contains("paused"), "{before}");
    board.hear(look(1_000, Vec::new()), now + Duration::from_secs(1));
    assert_eq!(screen(SMALL, &board, now), before);
    press(&mut board, &[KeyCode::Char(' ')]);
    board.hear(look(1_000, Vec::new()), now + Duration::from_secs(2));
    assert_ne!(screen(SMALL, &board, now), before);
}

#[test]
fn no_relays_and_ends() {
    let mut board = Board::new("https://relay-1:7443".into());
    let look = Look { status: status(), relays: Vec::new(), events: Err("not for this token".into()), history: None };
    let now = Instant::now();
    board.hear(News::Seen(Box::new(look)), now);
    let empty = screen(SMALL, &board, now);
    assert!(empty.contains("There are no relays that you may see. Add one: mcr add"), "{empty}");
    for key in [KeyCode::Char('q'), KeyCode::F(10)] {
        assert_eq!(press(&mut board, &[key]), Wish::End);
    }
    assert_eq!(board.press(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), Wish::End);
}

#[test]
fn any_size_can_be_drawn() {
    let (mut board, now) = board();
    for page in [Page::Relays, Page::Relay("studio-a".into()), Page::Events, Page::Help(Box::new(Page::Relays))] {
        board.page = page;
        for size in [(1, 1), (10, 3), (40, 8), (300, 100)] {
            screen(size, &board, now);
        }
    }
}
