#!/usr/bin/env bash
# Fuzzes the frame parser with the rewrite, then the recognisers of flows, for so many seconds together (default 60); a finding
# is a failure.
# cargo-fuzz asks for the nightly compiler's sanitizer flags, which RUSTC_BOOTSTRAP allows on the stable one.
set -euo pipefail
cd "$(dirname "$0")/../fuzz"

seconds=${1:-60}
tools=$PWD/../target/tools
if ! PATH="$tools/bin:$PATH" command -v cargo-fuzz >/dev/null; then
    echo "installing cargo-fuzz into target/tools"
    cargo install --quiet --locked --root "$tools" cargo-fuzz
fi
export PATH="$tools/bin:$PATH" RUSTC_BOOTSTRAP=1
mkdir -p corpus/frame corpus/flow
# A run that finds nothing ends with a line of statistics; a finding ends with the input and a non-zero exit code.
run() {
    local target=$1
    shift
    echo "fuzzing $target"
    cargo fuzz run "$target" "corpus/$target" "$@" -- -max_total_time=$((seconds / 2 + 1)) -max_len=2048 -print_final_stats=1 -verbosity=0 2>&1 |
        grep -vE '^(INFO|stat::(new_units|slowest|average))' | tail -n 20
}
run frame seeds
run flow
