//! Compiles the eBPF programs: clang is the only thing that is needed beside the headers of the C library and of libbpf.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use mcr_wire::DropReason;

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    println!("cargo::rerun-if-changed=bpf");
    println!("cargo::rerun-if-env-changed=CLANG");
    fs::write(out.join("drop_reason.h"), drop_reasons()).expect("write drop_reason.h");
    compile(Path::new("bpf/programs.bpf.c"), &out.join("programs.bpf.o"), &out);
}

/// The drop reasons of `mcr-wire`, with the same numbers.
fn drop_reasons() -> String {
    let line = |reason: &DropReason| format!("\tMCR_DROP_{} = {},\n", reason.name().to_uppercase(), reason.index());
    let lines: String = DropReason::ALL.iter().map(line).collect();
    format!("enum mcr_drop_reason {{\n{lines}}};\n#define MCR_DROP_REASONS {}\n", DropReason::COUNT)
}

fn compile(source: &Path, object: &Path, include: &Path) {
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    let architecture = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets the target");
    let mut command = Command::new(&clang);
    // `-target bpfel` has no system headers of its own; those of the machine are found by hand.
    command.args(["-g", "-O2", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror", "-mcpu=v3", "-target", "bpfel"]);
    command
        .args(["-nostdinc", "-isystem", "/usr/include", "-isystem"])
        .arg(format!("/usr/include/{architecture}-linux-gnu"));
    command.arg("-I").arg(include).arg("-c").arg(source).arg("-o").arg(object);
    match command.output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => panic!(
            "{} does not compile (clang 14 or newer, libc6-dev, linux-libc-dev and libbpf-dev are needed):\n{}",
            source.display(),
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(error) => panic!(
            "the in-kernel datapath is compiled by clang, and `{clang}` can not be started: {error}; \
             install it (`apt-get install clang libc6-dev linux-libc-dev libbpf-dev`) or set CLANG to its path"
        ),
    }
}
