#!/usr/bin/env bash
# cargo-deny over deny.toml. Its list of known weaknesses is a git repository; where that can not be had, the rest is checked and it
# is said so.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=$PWD/target/tools
if ! PATH="$tools/bin:$PATH" command -v cargo-deny >/dev/null; then
    echo "installing cargo-deny into target/tools (minutes, once)"
    cargo install --quiet --locked --root "$tools" cargo-deny
fi
export PATH="$tools/bin:$PATH"
cargo deny --locked check --hide-inclusion-graph licenses bans sources
if timeout 60 cargo deny --locked fetch db >/dev/null 2>&1; then
    cargo deny --locked check --disable-fetch advisories
else
    echo "advisories: NOT CHECKED, the list of known weaknesses can not be fetched from here"
fi
