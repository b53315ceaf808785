#!/usr/bin/env bash
# Builds the binaries and runs every test against them. Network tests need root and say so when they lack it.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/schemathesis.sh
scripts/asyncua.sh
cargo build --locked --bin mcr --bin mcr-netd
if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --workspace --locked --no-fail-fast
else
    cargo test --workspace --locked --no-fail-fast
fi
cargo test --workspace --locked --doc --quiet
scripts/demo.sh target/debug
scripts/fuzz.sh "${FUZZ_SECONDS:-10}"
