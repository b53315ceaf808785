//! Compiles the eBPF programs of the bench with clang, as the in-kernel datapath is.

use std::env;
use std::path::PathBuf;
use std::process::Command;

const PROGRAMS: [&str; 3] = ["generate", "receive", "redirect"];

fn main() {
    println!("cargo::rerun-if-env-changed=CLANG");
    for program in PROGRAMS {
        println!("cargo::rerun-if-changed=bpf/{program}.bpf.c");
        compile(program);
    }
}

fn compile(program: &str) {
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    let architecture = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets the target");
    let object = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join(format!("{program}.bpf.o"));
    let mut command = Command::new(&clang);
    command.args([
        "-g",
        "-O2",
        "-Wall",
        "-Werror",
        "-mcpu=v3",
        "-target",
        "bpfel",
        "-nostdinc",
        "-isystem",
        "/usr/include",
    ]);
    command.arg("-isystem").arg(format!("/usr/include/{architecture}-linux-gnu"));
    command.arg("-c").arg(format!("bpf/{program}.bpf.c")).arg("-o").arg(object);
    let status = command.status().unwrap_or_else(|error| {
        panic!("`{clang}` can not be started: {error}; `apt-get install clang libc6-dev linux-libc-dev libbpf-dev`")
    });
    assert!(status.success(), "bpf/{program}.bpf.c does not compile: {status}");
}
