#!/usr/bin/env bash
# cargo-deny over deny.toml. Its list of known weaknesses is a git repository; where that can not be had, the rest is checked and it
# is said so.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/tool.sh cargo-deny
export PATH="$PATH:$PWD/target/tools/cargo-deny/bin"
cargo deny --locked check --hide-inclusion-graph licenses bans sources
if timeout 60 cargo deny --locked fetch db >/dev/null 2>&1; then
    cargo deny --locked check --disable-fetch advisories
else
    echo "advisories: NOT CHECKED, the list of known weaknesses can not be fetched from here"
fi
