#!/bin/sh
# usage: enter-root.sh ROOT SHARED COMMAND...
#
# Runs COMMAND with ROOT as its root file system and SHARED at the same path in it, as root of a user namespace that
# holds the ordinary ids. ROOT has `umount`, if only in `/.lab`. With NETWORK=none there is no network in it, not even a loopback device that is up.
# With EMULATOR=PROGRAM the kernel starts the aarch64 programs of this namespace, and of no other, by that; needs Linux 6.7.
# Ends with 77 where that cannot be had, the reason on stderr.
set -eu
root=$(realpath "$1") shared=$(realpath "$2")
shift 2
gates=$(mktemp -d)
mkfifo "$gates/unshared" "$gates/mapped"
net=
[ "${NETWORK:-}" != none ] || net=--net

# The ids are mapped from outside, which needs no helper program and no entry in /etc/subuid. Until that is done the
# process is nobody: the second shell is the one that has the rights of root in the new namespace.
# shellcheck disable=SC2086
unshare --user --mount $net sh -euc '
    echo >"$1/unshared"
    read -r _ <"$1/mapped"
    shift
    exec sh -euc "$@"
' sh "$gates" '
    root=$1 shared=$2
    shift 2
    if [ -n "${EMULATOR:-}" ]; then
        magic="\\x7fELF\\x02\\x01\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x02\\x00\\xb7\\x00"
        mask="\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\x00\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xfe\\xff\\xff\\xff"
        { mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc &&
            printf ":lab:M::$magic:$mask:$EMULATOR:PF" >/proc/sys/fs/binfmt_misc/register; } 2>/dev/null || {
            echo "this kernel has no binfmt_misc of a namespace'"'"'s own" >&2
            exit 77
        }
    fi
    mount --rbind "$root" "$root"
    for directory in proc sys dev; do
        mount --rbind "/$directory" "$root/$directory"
    done
    mkdir -p "$root$shared" "$root/.outside"
    mount --rbind "$shared" "$root$shared"
    # Programs that look at their own mounts do not work below a chroot.
    cd "$root"
    pivot_root . .outside
    cd "$shared"
    PATH=$PATH:/.lab umount -l /.outside
    exec "$@"
' sh "$root" "$shared" "$@" &
child=$!
trap 'kill "$child"; rm -rf "$gates"' INT TERM
read -r _ <"$gates/unshared"
echo "0 0 65536" >"/proc/$child/uid_map"
echo "0 0 65536" >"/proc/$child/gid_map"
echo >"$gates/mapped"
status=0
wait "$child" || status=$?
rm -rf "$gates"
exit "$status"
