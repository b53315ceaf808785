#!/usr/bin/env bash
# Installs the release binaries, completions, units and example configuration. DESTDIR is respected.
set -euo pipefail
cd "$(dirname "$0")/.."

prefix=${1:-/usr/local}
dest=${DESTDIR:-}
install -D -m 755 target/release/mcr "$dest$prefix/bin/mcr"
install -D -m 755 target/release/mcr-netd "$dest$prefix/libexec/mcr/mcr-netd"
ln -sf ../libexec/mcr/mcr-netd "$dest$prefix/bin/mcr-netd"
install -d "$dest$prefix/share/bash-completion/completions" "$dest$prefix/share/zsh/site-functions"
target/release/mcr completions bash >"$dest$prefix/share/bash-completion/completions/mcr"
target/release/mcr completions zsh >"$dest$prefix/share/zsh/site-functions/_mcr"
install -D -m 644 README.md "$dest$prefix/share/doc/mcr/README.md"
install -D -m 644 contrib/systemd/queriers.conf "$dest$prefix/share/doc/mcr/queriers.conf"
for file in mcr.toml policy.toml access.toml; do
    # What an administrator wrote stays.
    [ -e "$dest/etc/mcr/$file" ] || install -D -m 644 "contrib/$file" "$dest/etc/mcr/$file"
done
for unit in mcr.service mcr-netd.service; do
    install -d "$dest/etc/systemd/system"
    sed "s|/usr/local|$prefix|g" "contrib/systemd/$unit" >"$dest/etc/systemd/system/$unit"
done
if [ -z "$dest" ] && ! id mcr >/dev/null 2>&1; then
    useradd --system --no-create-home --shell /usr/sbin/nologin mcr
fi
echo "installed; next: edit /etc/mcr/mcr.toml, then systemctl daemon-reload && systemctl enable --now mcr-netd mcr"
