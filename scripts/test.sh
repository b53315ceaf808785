#!/usr/bin/env bash
# Builds everything and runs every test. Network tests need root and say so when they lack it.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/tool.sh schemathesis asyncua cargo-nextest
export PATH="$PATH:$PWD/target/tools/cargo-nextest/bin"
# It builds the programs too, which network tests start; a build of them alone before would build most of it twice, because what
# tests need switches on more of some dependencies.
cargo nextest run --workspace --locked --no-fail-fast
cargo test --workspace --locked --doc --quiet
scripts/demo.sh target/debug
scripts/fuzz.sh "${FUZZ_SECONDS:-10}"
