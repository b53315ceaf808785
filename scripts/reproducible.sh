#!/usr/bin/env bash
# Builds what is committed twice, in two folders with paths of different lengths, and compares the programs byte by byte.
# PROFILE=dev is quicker and says nearly as much.
set -euo pipefail
cd "$(dirname "$0")/.."

profile=${PROFILE:-release}
folder=$profile
if [ "$profile" = dev ]; then folder=debug; fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cargo_home=${CARGO_HOME:-$HOME/.cargo}

build() {
    local source=$1
    mkdir -p "$source"
    git archive HEAD | tar -x -C "$source"
    (
        cd "$source"
        export RUSTFLAGS="--remap-path-prefix=$source=/mcr --remap-path-prefix=$cargo_home=/cargo"
        # For the C and assembler in dependencies.
        export CFLAGS="-ffile-prefix-map=$source=/mcr -ffile-prefix-map=$cargo_home=/cargo"
        CARGO_TARGET_DIR="$source/target" cargo build --quiet --profile "$profile" --locked --bin mcr --bin mcr-netd
    )
}

build "$work/a"
mkdir -p "$work/programs"
for program in mcr mcr-netd; do cp "$work/a/target/$folder/$program" "$work/programs/"; done
rm -rf "$work/a"
build "$work/another/folder"
result=0
for program in mcr mcr-netd; do
    if cmp "$work/programs/$program" "$work/another/folder/target/$folder/$program"; then
        echo "$program: the same, SHA-256 $(sha256sum <"$work/programs/$program" | cut -d' ' -f1)"
    else
        result=1
    fi
done
exit $result
