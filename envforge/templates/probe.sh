#!/bin/sh
# The profile of this node as JSON on stdout: sh probe.sh > node.json; then, on the laptop:
# envforge lock --profile node.json.  It reads, and starts uname, getconf or ldd, and nvidia-smi.
# Made by: envforge probe --script
set -fu
LC_ALL=C
export LC_ALL
root=${ENVFORGE_PROBE_ROOT:-}  # where proc and etc lie; only a test says otherwise

fail() { printf 'envforge: %s\n  at: %s\n  do: %s\n' "$1" "$2" "$3" >&2; exit "$4"; }

# First line of a file whose words before the colon or equals sign are $2; what stands after it, in $value.
line_of() {
    value=
    [ -r "$1" ] || return 1
    while IFS= read -r text || [ -n "$text" ]; do
        case $text in
        "$2"[=:]*) value=${text#"$2"?}; return 0 ;;
        "$2"[\ \	]*:*) value=${text#*:}; return 0 ;;
        esac
    done < "$1"
    return 1
}

# The characters of $1 that need no escape in JSON, 80 at most, in $value.
plain() {
    value='' rest=$1
    while [ -n "$rest" ] && [ ${#value} -lt 80 ]; do
        character=${rest%"${rest#?}"}
        case $character in [A-Za-z0-9._\(\)/+:\ -]) value=$value$character ;; esac
        rest=${rest#?}
    done
}

# The numbers that $1 begins with, in $value: 5.14.0-503.el9 is 5.14.0.
numbers() {
    value=${1%%[!0-9.]*}
    while :; do case $value in *.) value=${value%.} ;; *) break ;; esac; done
}

has() { for flag; do case " $flags " in *" $flag "*) ;; *) return 1 ;; esac; done; }

system=$(uname -s)
machine=$(uname -m)
case $system-$machine in
Linux-x86_64) platform=linux-64 level=x86_64 ;;
Linux-aarch64) platform=linux-aarch64 level=aarch64 ;;
Linux-ppc64le) platform=linux-ppc64le level=ppc64le ;;
Darwin-x86_64) platform=osx-64 level=x86_64 ;;
Darwin-arm64) platform=osx-arm64 level=m1 ;;
*) fail "no conda platform for $system on $machine" 'uname -sm' 'name one: envforge lock -p linux-64' 2 ;;
esac
glibc='' kernel='' macos='' driver='' cuda='' mpi='' distribution=''

if [ "$system" = Darwin ]; then
    numbers "$(sw_vers -productVersion)"
    macos=$value
else
    found=$(getconf GNU_LIBC_VERSION 2>/dev/null) || found=
    case $found in
    glibc\ *) numbers "${found#glibc }"; glibc=$value ;;
    *)
        found=$(ldd --version 2>&1) || :
        found=${found%%"
"*}
        case $found in *GLIBC*|*GNU\ libc*) numbers "${found##* }"; glibc=$value ;; esac ;;
    esac
    [ -n "$glibc" ] || fail 'the C library of this machine is not glibc, which conda packages need' \
        'getconf GNU_LIBC_VERSION' 'run it on a node, or in a container, with glibc' 3
    if [ -r "$root/proc/sys/kernel/osrelease" ]; then read -r found < "$root/proc/sys/kernel/osrelease"
    else found=$(uname -r); fi
    numbers "$found"
    kernel=$value

    if [ "$level" = x86_64 ] && line_of "$root/proc/cpuinfo" flags; then
        flags=$value
        if has cx16 lahf_lm pni popcnt sse4_1 sse4_2 ssse3; then
            level=x86_64_v2
            if has abm avx avx2 bmi1 bmi2 f16c fma movbe xsave; then
                level=x86_64_v3
                if has avx512bw avx512cd avx512dq avx512f avx512vl; then level=x86_64_v4; fi
            fi
        fi
    fi

    for file in "$root/etc/os-release" "$root/usr/lib/os-release"; do
        if line_of "$file" PRETTY_NAME; then plain "$value"; distribution=$value; break; fi
    done

    # NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024
    if line_of "$root/proc/driver/nvidia/version" 'NVRM version'; then
        for word in $value; do
            case $word in [0-9][0-9][0-9]*.[0-9]*) numbers "$word"; [ "$value" != "$word" ] || { driver=$word; break; } ;; esac
        done
    fi
    if [ -n "$driver" ]; then
        found=$(nvidia-smi 2>/dev/null) || found=
        case $found in *'CUDA Version: '[0-9]*) numbers "${found#*CUDA Version: }"; cuda=$value ;; esac
        # What each release of the driver brings, where nobody can be asked.
        release=${driver%%.*}
        [ -n "$cuda" ] || while read -r least newest; do
            if [ "$release" -ge "$least" ]; then cuda=$newest; break; fi
        done << EOF
@DRIVERS@EOF
    fi

    # The MPI that programs find: of Cray's, the one that can stand for any MPICH; none among the system's libraries.
    found=${MPICH_DIR:+$MPICH_DIR/lib-abi-mpich}:${LD_LIBRARY_PATH:-}:${MPI_HOME:+$MPI_HOME/lib}
    found=$found:${I_MPI_ROOT:+$I_MPI_ROOT/lib/release:$I_MPI_ROOT/lib}
    IFS=:
    for folder in $found; do
        case $folder in /*) ;; *) continue ;; esac
        [ ! -e "$root$folder/libc.so.6" ] || continue
        for file in libmpi.so.12 libmpi.so.40; do
            if [ -e "$root$folder/$file" ]; then mpi=$folder/$file; break 2; fi
        done
    done
    unset IFS
    case $mpi in *[!A-Za-z0-9._+@=/-]*) mpi='' ;; esac
fi

fact() { if [ -n "$2" ]; then printf ',\n"%s":"%s"' "$1" "$2"; else printf ',\n"%s":null' "$1"; fi; }

printf '{\n"envforge_profile":1,\n"needs":"0.1.0"'
fact platform "$platform"
fact glibc "$glibc"
fact kernel "$kernel"
fact macos "$macos"
fact microarchitecture "$level"
fact driver "$driver"
fact cuda "$cuda"
fact mpi "$mpi"
fact distribution "$distribution"
printf '\n}\n'
