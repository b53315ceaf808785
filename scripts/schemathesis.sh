#!/usr/bin/env bash
# Installs schemathesis, which the tests of the API use, into target/tools.
set -euo pipefail
cd "$(dirname "$0")/.."

version=4.32.5
home=target/tools/schemathesis
if [ "$("$home/bin/schemathesis" --version 2>/dev/null)" != "schemathesis, version $version" ]; then
    echo "installing schemathesis $version into $home"
    rm -rf "$home"
    python3 -m venv "$home"
    "$home/bin/pip" install --quiet --disable-pip-version-check "schemathesis==$version"
fi
