//! Compiles the eBPF program that counts the kernel's drops.

const SOURCE: &str = "bpf/drops.bpf.c";

fn main() {
    println!("cargo::rerun-if-changed={SOURCE}");
    mcr_clang::compile(SOURCE, "drops.bpf.o");
}
