//! OpenMetrics text to the older text format of Prometheus (exposition format 0.0.4).
//!
//! The samples are the same; the older format has no units, no end mark and no `info` type, and its `HELP` and
//! `TYPE` lines carry the name of the samples, with `_total` or `_info`.

/// The same page in the older format.
pub(super) fn from_open_metrics(page: &str) -> String {
    let mut plain = String::with_capacity(page.len());
    let mut help = "";
    for line in page.lines() {
        if let Some(described) = line.strip_prefix("# HELP ") {
            help = described;
        } else if let Some(typed) = line.strip_prefix("# TYPE ") {
            describe(&mut plain, help, typed);
        } else if !line.starts_with('#') {
            plain.push_str(line);
            plain.push('\n');
        }
    }
    plain
}

fn describe(plain: &mut String, help: &str, typed: &str) {
    let (name, kind) = typed.split_once(' ').unwrap_or((typed, "untyped"));
    let help = help.strip_prefix(name).unwrap_or(help);
    let (suffix, kind) = match kind {
        "counter" => ("_total", "counter"),
        "info" => ("_info", "gauge"),
        other => ("", other),
    };
    plain.push_str(&format!("# HELP {name}{suffix}{help}\n# TYPE {name}{suffix} {kind}\n"));
}
