#!/bin/sh
# usage: tools-root.sh ROOT SUITE
#
# Makes ROOT, once: a Debian SUITE with the programs that read, load, convert and run images, and a registry. What is
# there already is kept. Needs what debian-root.sh needs, and ends with 77 as that does.
set -eu
root=$1 suite=$2
tools=skopeo,umoci,buildah,podman,crun,charliecloud,python3,python3-lark,python3-requests,squashfs-tools,squashfuse,docker-registry,ca-certificates

[ ! -d "$root" ] || exit 0
mkdir -p "$(dirname "$root")" || exit 77
made=$(mktemp -d "$root.XXXXXX") || exit 77
trap 'rm -rf --one-file-system "$made"' EXIT
chmod 755 "$made"
sh "$(dirname "$0")/debian-root.sh" "$made/root" "$suite" "$tools"
echo "127.0.0.1 localhost" >"$made/root/etc/hosts"
mv -T "$made/root" "$root" 2>/dev/null || [ -d "$root" ]
