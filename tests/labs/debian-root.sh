#!/bin/sh
# usage: debian-root.sh DIR SUITE PACKAGES [VARIANT [ARCH]]
#
# Makes DIR: a Debian SUITE with PACKAGES, separated by commas, in it. VARIANT is what mmdebstrap calls it, minbase if
# nobody says. Needs root, mmdebstrap and a Debian mirror.
# Ends with 77 where that cannot be had, the reason on stderr.
set -eu
dir=$1 suite=$2 packages=$3 variant=${4:-minbase} arch=${5:-}
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}

cannot() {
    echo "$1" >&2
    exit 77
}

[ "$(id -u)" -eq 0 ] || cannot "a root file system can only be made by root"
command -v mmdebstrap >/dev/null || cannot "mmdebstrap is missing: apt-get install mmdebstrap"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# A mirror that stands still is good enough here.
mmdebstrap --quiet --variant="$variant" ${arch:+--architectures="$arch"} --include="$packages" \
    --aptopt='Acquire::Check-Valid-Until "false"' "$suite" "$dir" "deb $mirror $suite main" >"$log" 2>&1 ||
    cannot "no Debian $suite${arch:+ for $arch} from $mirror: $(tail -n 1 "$log")"
