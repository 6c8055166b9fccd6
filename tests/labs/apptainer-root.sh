#!/bin/sh
# usage: apptainer-root.sh ROOT SUITE
#
# Makes ROOT, once: a Debian system with Apptainer in it, and in ROOT/base a Debian SUITE with Python and venv, to
# build images from. What is there already is kept. Needs root, mmdebstrap and a Debian mirror.
# Ends with 77 where that cannot be had, the reason on stderr.
set -eu
root=$1 suite=$2
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}

cannot() {
    echo "$1" >&2
    exit 77
}

[ ! -d "$root/base" ] || exit 0
[ "$(id -u)" -eq 0 ] || cannot "a root file system can only be made by root"
command -v mmdebstrap >/dev/null || cannot "mmdebstrap is missing: apt-get install mmdebstrap"

mkdir -p "$(dirname "$root")"
made=$(mktemp -d "$root.XXXXXX")
trap 'rm -rf "$made"' EXIT
chmod 755 "$made"
# Apptainer is packaged for Debian's unstable only. A mirror that stands still is good enough here.
debootstrap() {
    mmdebstrap --quiet --variant=minbase --aptopt='Acquire::Check-Valid-Until "false"' \
        --include="$3" "$1" "$2" "deb $mirror $1 main" >"$made.log" 2>&1 ||
        cannot "no Debian $1 from $mirror: $(tail -n 1 "$made.log")"
}
debootstrap sid "$made/lab" apptainer,ca-certificates,squashfs-tools,squashfuse
debootstrap "$suite" "$made/lab/base" python3,python3-venv
rm -f "$made.log"
# Apptainer binds these into every container.
echo "127.0.0.1 localhost" >"$made/lab/etc/hosts"
touch "$made/lab/etc/resolv.conf"
# A user namespace cannot copy device nodes, which an image does not need.
rm -rf "$made"/lab/base/dev/*
mv -T "$made/lab" "$root" 2>/dev/null || [ -d "$root/base" ]
