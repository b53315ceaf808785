#!/usr/bin/env bash
# Fuzzes for so many seconds together (default 60); a finding is a failure. The frame parser with the rewrite, the recognisers
# of flows and endpoint text; with `all` as the second argument also the configuration, bodies of the API and the keeper's protocol, for which
# both programs are built.
# cargo-fuzz asks for the nightly compiler's sanitizer flags, which RUSTC_BOOTSTRAP allows on the stable one.
set -euo pipefail
cd "$(dirname "$0")/../fuzz"

seconds=${1:-60}
targets=(frame flow endpoint)
features=()
if [ "${2:-}" = all ]; then
    targets+=(relay config keeper)
    features=(--features programs)
fi
../scripts/tool.sh cargo-fuzz
export PATH="$PATH:$PWD/../target/tools/cargo-fuzz/bin" RUSTC_BOOTSTRAP=1
# A run that finds nothing ends with a line of statistics; a finding ends with the input and a non-zero exit code.
for target in "${targets[@]}"; do
    echo "fuzzing $target"
    mkdir -p "corpus/$target"
    cargo fuzz run "${features[@]}" "$target" "corpus/$target" "seeds/$target" -- -max_total_time=$((seconds / ${#targets[@]} + 1)) \
        -max_len=2048 -print_final_stats=1 -verbosity=0 2>&1 | grep -vE '^(INFO|stat::(new_units|slowest|average))' | tail -n 20
done
