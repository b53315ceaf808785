//! Compiles the eBPF programs of the bench.

const PROGRAMS: [&str; 3] = ["generate", "receive", "redirect"];

fn main() {
    for program in PROGRAMS {
        let source = format!("bpf/{program}.bpf.c");
        println!("cargo::rerun-if-changed={source}");
        mcr_clang::compile(&source, &format!("{program}.bpf.o"));
    }
}
