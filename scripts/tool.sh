#!/usr/bin/env bash
# Installs tools that tests and checks need and Debian has not, each into target/tools/NAME, in the version that is written here.
# Those of cargo come from PyPI as programs where it has them for this machine; else they are built, which takes minutes.
set -euo pipefail
cd "$(dirname "$0")/.."

declare -A version_of=([schemathesis]=4.32.5 [asyncua]=2.1.0 [cargo-deny]=0.20.2 [cargo-fuzz]=0.13.2 [cargo-nextest]=0.9.148)

from_pypi() {
    python3 -m venv "$home" && "$home/bin/pip" install --quiet --disable-pip-version-check "$1==$version"
}

for name in "${@:?which tools}"; do
    version=${version_of[$name]:?no such tool: $name}
    home=target/tools/$name
    # One of cargo's that is there already will do.
    if [[ $name == cargo-* ]] && command -v "$name" >/dev/null; then continue; fi
    if [ "$(cat "$home/version" 2>/dev/null)" = "$version" ]; then continue; fi
    echo "installing $name $version into $home"
    rm -rf "$home"
    if [[ $name != cargo-* ]]; then
        from_pypi "$name"
    elif ! from_pypi "astral-dev-toolchain-$name" >/dev/null 2>&1; then
        rm -rf "$home"
        cargo install --quiet --locked --root "$home" --version "$version" "$name"
    fi
    echo "$version" >"$home/version"
done
