#!/bin/sh
# usage: apptainer-root.sh ROOT SUITE
#
# Makes ROOT, once: a Debian system with Apptainer in it, and in ROOT/base a Debian SUITE with Python and venv, to
# build images from. What is there already is kept. Needs what debian-root.sh needs, and ends with 77 as that does.
set -eu
root=$1 suite=$2 debian=$(dirname "$0")/debian-root.sh

[ ! -d "$root/base" ] || exit 0
mkdir -p "$(dirname "$root")" || exit 77
made=$(mktemp -d "$root.XXXXXX") || exit 77
trap 'rm -rf --one-file-system "$made"' EXIT
chmod 755 "$made"
# Apptainer is packaged for Debian's unstable only.
sh "$debian" "$made/lab" sid apptainer,ca-certificates,squashfs-tools,squashfuse
sh "$debian" "$made/lab/base" "$suite" python3,python3-venv
# Apptainer binds these into every container.
echo "127.0.0.1 localhost" >"$made/lab/etc/hosts"
touch "$made/lab/etc/resolv.conf"
# A user namespace cannot copy device nodes, which an image does not need.
rm -rf "$made"/lab/base/dev/*
mv -T "$made/lab" "$root" 2>/dev/null || [ -d "$root/base" ]
