//! `docs/drop-reasons.md` is written from the reasons themselves. `UPDATE_DOCS=1 cargo test` writes it anew.

use mcr_wire::DropReason;

const HEAD: &str = "# Drop reasons

Every packet that a relay received is sent on each of its outputs, or dropped there under one of these names. They are
the same in `mcr show`, in the API and in the metrics (`mcr_dropped_packets_total{reason}`). What can not be charged to a
relay (no relay matches, the ring was full, a fragment without its first one) counts on the input interface:
`mcr_input_dropped_packets_total{reason}`.

| reason | what happened | what to do |
|---|---|---|
";

#[test]
fn the_page_is_current() {
    let rows = DropReason::ALL.map(|reason| format!("| `{reason}` | {} | {} |\n", reason.meaning(), reason.remedy()));
    let page = format!("{HEAD}{}", rows.concat());
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/drop-reasons.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &page).expect("write the page");
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(committed, page, "run UPDATE_DOCS=1 cargo test -p mcr-wire --test drop_reasons_page");
}
