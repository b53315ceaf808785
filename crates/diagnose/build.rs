//! Compiles the eBPF program that counts the kernel's drops.

use std::env;
use std::path::PathBuf;
use std::process::Command;

const SOURCE: &str = "bpf/drops.bpf.c";

fn main() {
    println!("cargo::rerun-if-changed={SOURCE}");
    println!("cargo::rerun-if-env-changed=CLANG");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    let architecture = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets the target");
    let mut command = Command::new(&clang);
    // `-target bpfel` has no system headers of its own; those of the machine are found by hand.
    command.args(["-g", "-O2", "-Wall", "-Wextra", "-Werror", "-mcpu=v3", "-target", "bpfel"]);
    command.args(["-nostdinc", "-isystem", "/usr/include", "-isystem"]);
    command.arg(format!("/usr/include/{architecture}-linux-gnu"));
    command.args(["-c", SOURCE, "-o"]).arg(out.join("drops.bpf.o"));
    match command.output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => panic!(
            "{SOURCE} does not compile (clang 14 or newer, libc6-dev, linux-libc-dev and libbpf-dev are needed):\n{}",
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(error) => panic!(
            "`{clang}` can not be started: {error}; install it (`apt-get install clang libc6-dev linux-libc-dev \
             libbpf-dev`) or set CLANG to its path"
        ),
    }
}
