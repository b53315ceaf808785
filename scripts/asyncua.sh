#!/usr/bin/env bash
# Installs asyncua, which a test speaks OPC UA PubSub with, into target/tools.
set -euo pipefail
cd "$(dirname "$0")/.."

version=2.1.0
home=target/tools/asyncua
if [ "$("$home/bin/python" -c 'from importlib.metadata import version; print(version("asyncua"))' 2>/dev/null)" != "$version" ]; then
    echo "installing asyncua $version into $home"
    rm -rf "$home"
    python3 -m venv "$home"
    "$home/bin/pip" install --quiet --disable-pip-version-check "asyncua==$version"
fi
