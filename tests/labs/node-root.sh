#!/bin/sh
# usage: node-root.sh ROOT SUITE
#
# Makes ROOT/dash, ROOT/bash and ROOT/busybox, once: each the root file system of a node that has Debian SUITE's C
# library, the programs that a bundle asks for, one of the three shells as `sh`, and nothing else. What is there
# already is kept. Needs what debian-root.sh needs, and ends with 77 as that does.
set -eu
root=$1 suite=$2
tools="tar gzip sha256sum tail head dd mkdir mv rm cat chmod uname df"

[ ! -d "$root/busybox" ] || exit 0
mkdir -p "$(dirname "$root")" || exit 77
made=$(mktemp -d "$root.XXXXXX") || exit 77
trap 'rm -rf --one-file-system "$made"' EXIT
chmod 755 "$made"
sh "$(dirname "$0")/debian-root.sh" "$made/whole" "$suite" bash,dash,busybox-static

# copy PATH...: files of the whole system, at the same place.
copy() {
    for path; do
        mkdir -p "$node$(dirname "$path")"
        cp -pL "$made/whole$path" "$node$path"
    done
}
inside() {
    chroot "$made/whole" "$@"
}
for shell in dash bash busybox; do
    node=$made/nodes/$shell
    mkdir -p "$node/usr/bin" "$node/usr/lib" "$node/usr/lib64" "$node/.lab" "$node/proc" "$node/sys" "$node/dev" "$node/tmp"
    ln -s usr/bin usr/lib usr/lib64 "$node/"
    # A runtime needs the C library whether or not the tools are linked to it.
    # shellcheck disable=SC2046
    copy $(inside dpkg -L libc6 | grep '\.so\.[0-9]*$') /usr/bin/busybox
    mv "$node/usr/bin/busybox" "$node/.lab/busybox"
    # What enter-root.sh has to start in there, beside the search path.
    ln -s busybox "$node/.lab/umount"
    if [ "$shell" = busybox ]; then
        for tool in sh $tools; do
            ln -s /.lab/busybox "$node/usr/bin/$tool"
        done
        continue
    fi
    for tool in "$shell" $tools; do
        # shellcheck disable=SC2046
        copy "/usr/bin/$tool" $(inside ldd "/usr/bin/$tool" | grep -o '/[^ ]*')
    done
    mv "$node/usr/bin/$shell" "$node/usr/bin/sh"
done
mv -T "$made/nodes" "$root" 2>/dev/null || [ -d "$root/busybox" ]
