#!/bin/sh
# usage: python-root.sh ROOT SUITE ARCH
#
# Makes, once: ROOT/whole, in which Debian SUITE's Python for ARCH is unpacked with all that it is linked to, and
# ROOT/bare, a node that has Debian's C library and busybox, and nothing else: no libgcc, no libstdc++. Nothing of
# ARCH is run here. Needs what debian-root.sh needs, and ends with 77 as that does.
set -eu
root=$1 suite=$2 arch=$3

[ ! -d "$root/bare" ] || exit 0
mkdir -p "$(dirname "$root")" || exit 77
made=$(mktemp -d "$root.XXXXXX") || exit 77
trap 'rm -rf --one-file-system "$made"' EXIT
chmod 755 "$made"
sh "$(dirname "$0")/debian-root.sh" "$made/whole" "$suite" python3.11,libgcc-s1,busybox-static extract "$arch"

node=$made/bare
mkdir -p "$node/usr/bin" "$node/usr/lib" "$node/.lab" "$node/proc" "$node/sys" "$node/dev" "$node/tmp"
ln -s usr/bin usr/lib "$node/"
cp -p "$made"/whole/bin/busybox "$node/.lab/busybox"
ln -s busybox "$node/.lab/umount"
for tool in sh tar gzip sha256sum tail head dd mkdir mv rm cat chmod uname df; do
    ln -s /.lab/busybox "$node/usr/bin/$tool"
done
loader=$(cd "$made/whole" && find usr lib lib64 -name 'ld-linux*.so.?' 2>/dev/null | head -n 1)
for library in c m dl rt util pthread resolv; do
    file=$(find "$made/whole/lib" "$made/whole/usr/lib" -name "lib$library.so.?" | head -n 1)
    mkdir -p "$node/usr/lib/$(basename "$(dirname "$file")")"
    cp -pL "$file" "$node/usr/lib/$(basename "$(dirname "$file")")/"
done
mkdir -p "$node/$(dirname "$loader")" "$node/usr/lib64"
cp -pL "$made/whole/$loader" "$node/usr/lib64/"
cp -pL "$made/whole/$loader" "$node/usr/lib/" # where ld.so of aarch64 is looked for
ln -sf usr/lib64 "$node/lib64"
mv -T "$made/whole" "$made/kept"
mkdir "$made/done"
mv -T "$made/kept" "$made/done/whole"
mv -T "$node" "$made/done/bare"
mv -T "$made/done" "$root" 2>/dev/null || [ -d "$root/bare" ]
