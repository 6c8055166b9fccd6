#!/bin/sh
# usage: tools-root.sh ROOT SUITE
#
# Makes ROOT, once: a Debian SUITE with the programs that read, load, convert and run images, and a registry. What is
# there already is kept. Needs root, mmdebstrap and a Debian mirror.
# Ends with 77 where that cannot be had, the reason on stderr.
set -eu
root=$1 suite=$2
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
tools=skopeo,umoci,buildah,podman,crun,charliecloud,python3,python3-lark,python3-requests,squashfs-tools,squashfuse,docker-registry,ca-certificates

cannot() {
    echo "$1" >&2
    exit 77
}

[ ! -d "$root" ] || exit 0
[ "$(id -u)" -eq 0 ] || cannot "a root file system can only be made by root"
command -v mmdebstrap >/dev/null || cannot "mmdebstrap is missing: apt-get install mmdebstrap"

mkdir -p "$(dirname "$root")"
made=$(mktemp -d "$root.XXXXXX")
trap 'rm -rf "$made"' EXIT
chmod 755 "$made"
mmdebstrap --quiet --variant=minbase --include="$tools" "$suite" "$made/root" "deb $mirror $suite main" >"$made.log" 2>&1 ||
    cannot "no Debian $suite from $mirror: $(tail -n 1 "$made.log")"
rm -f "$made.log"
echo "127.0.0.1 localhost" >"$made/root/etc/hosts"
mv -T "$made/root" "$root" 2>/dev/null || [ -d "$root" ]
