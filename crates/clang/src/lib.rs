//! For build scripts: compiles eBPF programs in C. clang is the only thing that is needed beside the headers of the C library,
//! of the kernel and of libbpf.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles `source`, a path in the package, to the object of this name in `OUT_DIR`, where it may find more headers. `CLANG`
/// says which clang.
///
/// # Panics
/// When it can not, with what to do: that ends the build.
pub fn compile(source: &str, object: &str) {
    println!("cargo::rerun-if-env-changed=CLANG");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    match command(&clang, Path::new(source), &out, object).output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => panic!(
            "{source} does not compile (clang 14 or newer, libc6-dev, linux-libc-dev and libbpf-dev are needed):\n{}",
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(error) => panic!(
            "eBPF programs are compiled by clang, and `{clang}` can not be started: {error}; \
             install it (`apt-get install clang libc6-dev linux-libc-dev libbpf-dev`) or set CLANG to its path"
        ),
    }
}

fn command(clang: &str, source: &Path, out: &Path, object: &str) -> Command {
    let architecture = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets the target");
    let mut command = Command::new(clang);
    command.args(["-g", "-O2", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror", "-mcpu=v3", "-target", "bpfel"]);
    // `-target bpfel` has no system headers of its own; those of the machine are found by hand.
    command.args(["-nostdinc", "-isystem", "/usr/include", "-isystem"]);
    command.arg(format!("/usr/include/{architecture}-linux-gnu"));
    // The line numbers in the object name files: by paths that are the same wherever it is built.
    command.arg("-fdebug-compilation-dir=.").arg(format!("-ffile-prefix-map={}=generated", out.display()));
    command.arg("-I").arg(out).arg("-c").arg(source).arg("-o").arg(out.join(object));
    command
}
