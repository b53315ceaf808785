//! Bars for the docs: one panel for each number of outputs, and one for each other way between the protocols.

use std::fmt::Write;

use crate::families::Families;
use crate::generate::Ingress;
use crate::wire::Egress;

use super::row::Row;

const WIDTH: usize = 760;
const LABELS: usize = 90;
const VALUES: usize = 110;
const BAR: usize = 18;
const GAP: usize = 6;
const PANEL_TITLE: usize = 34;
const PANELS: [(Families, usize); 5] =
    [(Families::Ipv4, 1), (Families::Ipv4, 4), (Families::Ipv4, 16), (Families::Ipv6, 1), (Families::Ipv4ToIpv6, 1)];

/// Loss-free rates.
pub(super) fn loss_free(rows: &[Row]) -> String {
    let kpps = |row: &Row| row.lossfree_pps / 1000.0;
    bars("Packets per second without loss, thousands (more is better)", rows, kpps)
}

/// CPU time.
pub(super) fn cpu(rows: &[Row]) -> String {
    bars("CPU nanoseconds for each packet and output (less is better)", rows, |row| row.cpu_ns_per_packet_output)
}

fn bars(title: &str, rows: &[Row], value: impl Fn(&Row) -> f64) -> String {
    let (mut body, mut y) = (String::new(), 40);
    for (families, outputs) in PANELS {
        let is_of_it = |row: &&Row| (row.families, row.outputs) == (families, outputs) && is_shown(row);
        let panel: Vec<&Row> = rows.iter().filter(is_of_it).collect();
        let most = panel.iter().map(|row| value(row)).fold(1.0, f64::max);
        if panel.is_empty() {
            continue;
        }
        let _ =
            writeln!(body, "<text x=\"0\" y=\"{}\" class=\"panel\">1:{outputs}, {}</text>", y + 20, families.name());
        y += PANEL_TITLE;
        for row in panel {
            bar(&mut body, y, row, value(row), most);
            y += BAR + GAP;
        }
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{y}\" viewBox=\"0 0 {WIDTH} {y}\">\n\
         <style>text {{ font: 13px sans-serif; fill: #333 }} .title, .panel {{ font-weight: bold }} \
         .ours {{ fill: #1f77b4 }} .rival {{ fill: #b0b0b0 }} .limit {{ fill: #e5c07b }}</style>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n<text x=\"0\" y=\"18\" class=\"title\">{title}</text>\n{body}</svg>\n"
    )
}

fn bar(body: &mut String, y: usize, row: &Row, value: f64, most: f64) {
    let width = value / most * (WIDTH - LABELS - VALUES) as f64;
    let class = match row.path {
        path if path.is_ours() => "ours",
        crate::path::Path::Redirect => "limit",
        _ => "rival",
    };
    let text = y + BAR - 5;
    let _ = writeln!(body, "<text x=\"0\" y=\"{text}\">{}</text>", row.path.name());
    let _ = writeln!(
        body,
        "<rect x=\"{LABELS}\" y=\"{y}\" width=\"{width:.1}\" height=\"{BAR}\" class=\"{class}\"/>\
         <text x=\"{:.1}\" y=\"{text}\">{value:.0}</text>",
        LABELS as f64 + width + 6.0
    );
}

/// The main comparison.
fn is_shown(row: &Row) -> bool {
    let is_plain = !row.coalesce && row.relays == 1 && row.payload_bytes == 1_250;
    is_plain && row.ingress == Ingress::Raw && row.egress == Egress::Software
}
