//! Compiles the eBPF programs.

use std::env;
use std::fs;
use std::path::PathBuf;

use mcr_wire::DropReason;

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    println!("cargo::rerun-if-changed=bpf");
    fs::write(out.join("drop_reason.h"), drop_reasons()).expect("write drop_reason.h");
    mcr_clang::compile("bpf/programs.bpf.c", "programs.bpf.o");
}

/// The drop reasons of `mcr-wire`, with the same numbers.
fn drop_reasons() -> String {
    let line = |reason: &DropReason| format!("\tMCR_DROP_{} = {},\n", reason.name().to_uppercase(), reason.index());
    let lines: String = DropReason::ALL.iter().map(line).collect();
    format!("enum mcr_drop_reason {{\n{lines}}};\n#define MCR_DROP_REASONS {}\n", DropReason::COUNT)
}
