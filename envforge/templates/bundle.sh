#!/bin/sh
# envforge bundle 1
# @DIGEST@
# An environment in one file: this program, then a tar of what it is made of. How to use it: sh FILE --help
main() {
# Before all else its own digest: a bit that fell over steers nothing. Up to there what is one bit from > is quoted, as is 6.
set -u; envforge='' at='' do='' nl=$(printf '\n.') nl=${nl%.}; case $0 in */*) file=$0 ;; *) file="./$0" ;; esac
fail() { printf 'envforge: %s\n  at: %s\n  do: %s\n' "${2%%"$nl"*}" "$3" "$4" >&2; exit "$1"; }
for tool in dd df gzip head mkdir rm sha256sum tail tar uname; do
    [ -n "$(command -v "$tool")" ] || fail 3 "this node lacks the program $tool" "PATH=$PATH" "add its directory to PATH"; done
start=''; [ ! -f "$file" ] || start=$(head -c "@BEFORE@" "$file" | (read -r one; read -r two; read -r sum; printf %s "$one$two$sum"))
[ "${start% *}" = "#!/bin/sh# envforge bundle 1#" ] ||
    fail 2 "the program cannot tell which file it is in" "$0" "sh PATH-OF-THE-BUNDLE --prefix PATH   # not sh < BUNDLE"
[ "$(head -c "@LENGTH@" "$file" | tail -c "+@COVERED@" | "sha256sum")" = "${start##* }  -" ] || {
    (: "${envforge:?the bundle is damaged or incomplete}"); (: "${at:?its first @LENGTH@ bytes}"); (: "${do:?carry it again}"); exit 2; }
version=@VERSION@ platform=@PLATFORM@ name=@NAME@ lock=@LOCK@ glibc=@GLIBC@
kib=@KIB@ files=@FILES@ runtime=@RUNTIME@ runtime_at=@RUNTIME_AT@ runtime_size=@RUNTIME_SIZE@
manifest=@MANIFEST@ manifest_at=@MANIFEST_AT@ manifest_size=@MANIFEST_SIZE@
damaged() { fail 2 "the bundle is damaged or incomplete: $1" "$file" "sha256sum -c $shown.sha256   # and carry it again"; }
part() { bs=512; [ $(($1 % 16896)) -ne 0 ] || bs=16896  # where the runtime begins, after header and member's head: larger reads
    dd if="$file" bs="$bs" skip=$(($1 / bs)) count=$((($2 + bs - 1) / bs)) 2>/dev/null | head -c "$2"; }
check() { sum=$(part "$3" "$4" | sha256sum); [ "${sum%% *}" = "$2" ] || damaged "$1 is not what was bundled"; }
quoted() { case $1 in *\'*) printf '"%s"' "$1" ;; *[!A-Za-z0-9_./+@%,=-]*) printf "'%s'" "$1" ;; *) printf %s "$1" ;; esac; }
# What is free stands last but one before the percent sign. Where the total is 0 or no number, nobody knows.
free() { df "$1" "$2" 2>/dev/null | (read -r _; read -r line; set -f; set -- ${line%%\%*}
    while [ $# -gt 4 ]; do shift; done; case ${1:-0}${3:-x} in 0* | *[!0-9]*) ;; *) echo "$3" ;; esac); }
libc() { for one in /lib64/libc.so.6 /lib/*-linux-gnu/libc.so.6 /lib64/ld-*.so.? /lib/ld-*.so.?; do
    [ -x "$one" ] && "$one" --version && return; done; getconf GNU_LIBC_VERSION || ldd --version; }
# Containers share a node's name but not its numbers of processes; the first process of each began at another time.
began() { all=''; read -r all 2>/dev/null </proc/1/stat; set -f; set -- ${all##*\) }; echo "${20-}"; }
make() { for old in "${work%-*}"-*; do  # what killed runs left goes first
        kill -0 "${old##*-}" 2>/dev/null || [ -e "/proc/${old##*-}" ] || rm -rf "$old" 2>/dev/null; done
    rm -rf "$work"; (umask 022; mkdir -p "$base") 2>&1 && mkdir -m 700 "$work" 2>&1; }
clean() { rm -rf "$work"; while [ "$base" != "$near" ] && rmdir "$base" 2>/dev/null; do base=${base%/*}; done; }
shown=$(quoted "$file") mode='' ask='' prefix='' next='' quiet='' force='' plain='' scratch=${ENVFORGE_SCRATCH-} store=${ENVFORGE_STORE-}; [ $# -gt 0 ] || set -- --help
for word do  # each goes round once: off the front, and on to the end unless it is for this program alone
    shift; full=$next$word next=''; case $mode in '' | install) case $full in
        -b) continue ;; --scratch) next=--scratch=; continue ;; --scratch=*) scratch=${full#*=}; continue ;;
        -p | -bp | --prefix) next=--prefix= word=--prefix ;; --prefix=*) prefix=${full#*=} ;;
        -p*) prefix=${full#-p} prefix=${prefix#=} word=--prefix=$prefix ;; --squashfs) mode=squashfs word=--output ;; --squashfs=*) mode=squashfs word=--output=${full#*=} ;;
        -h | --help | --version) [ -z "$ask" ] || { mode=help; continue; }; printf '%s\n' \
            "$name for $platform, a bundle of envforge $version, lock sha256:$lock" "install it:  sh $shown --prefix PATH   # $kib KiB, $files files" "or one file: sh $shown --squashfs FILE" \
            "its options: sh $shown install --help" "look inside: sh $shown list   # or verify, sbom, extract DIR" "for one job: sh $shown stage --to DIR" \
            "the rest:    sh $shown COMMAND --help   # run, history, rollback ...; --scratch DIR, first of all: what to work in"; exit 0 ;;
        --json | --quiet | --dry-run) quiet=yes ;; --store*) store=$full ;; --ignore-check*) force=yes ;; -*) ;;
        *) [ -n "$mode" ] || { mode=$word ask=$word; continue; } ;; esac; mode=${mode:-install} ;;
    stage) case $full in --to) next=--to= ;; --to=*) scratch=${scratch:-${full#*=}} ;; esac ;;  # a disk of the node's own
    *) case $word in -*) ;; *) plain=yes ;; esac ;; esac; set -- "$@" "$word"; done; [ "$mode$ask" != helpinstall ] || set -- --help
here=$(uname -s)-$(uname -m); case $here in Linux-x86_64) here=linux-64 ;; Linux-aarch64) here=linux-aarch64 ;; esac; [ "$mode" != squashfs ] || { set -- squashfs "$file" "$@"; mode=image ask=''; }
[ "$here" = "$platform" ] || fail 2 "the bundle is for $platform, and this node is $here" "$file" "envforge bundle -p PLATFORM"
have=$(libc 2>/dev/null </dev/null | head -n 1); case $have in *' version '*) have=${have##* version } ;; *) have=${have##* } ;; esac
case $glibc:$have$force in 2.*:2.*yes) ;; 2.*:2.[0-9]*) have=${have#2.} have=${have%%[!0-9]*}; [ "$have" -ge "${glibc#2.}" ] ||
    fail 2 "the bundle needs glibc $glibc, and this node has 2.$have" "$file" "envforge lock --glibc 2.$have   # on the laptop" ;; esac
mode=${mode:-install}; case $mode in install | extract | stage) plain='' ;; verify | list | sbom) ;; *) plain=yes ;; esac; [ -n "$plain" ] || set -- "$file" "$@"
case $mode:$prefix in install:) fail 2 "no prefix was named" "the command line" "sh $shown --prefix PATH" ;; install:/*) ;; *) prefix=$PWD/$prefix ;; esac
while case $prefix in ?*/ | ?*/.) ;; *) false ;; esac; do prefix=${prefix%/*}; done
base=$prefix.generations own=$prefix/.envforge/bin/envforge hint="name a --prefix where you may write and start programs"
[ "$mode" = install ] || { base=${file%/*} base=${base:-/} prefix='' hint="sh $shown --scratch DIR $mode ..."; }
[ -L "$prefix" ] || [ ! -e "$prefix" ] || fail 2 "what is at the prefix was not made by envforge" "$prefix" "name another --prefix"
base=${scratch:-$base}; case $base in /*) ;; *) base=$PWD/$base ;; esac; near=$base; while [ ! -d "$near" ]; do near=${near%/*}; near=${near:-/}; done; real=$(cd -P "$near" 2>/dev/null && pwd -P) && base=${real%/}${base#"${near%/}"} near=$real  # to Python LINK/.. is beside LINK
[ "$mode$quiet" != install ] || echo "envforge: $name needs $kib KiB and $files files" >&2
if [ -n "$prefix" ] && [ -z "$force$store$scratch" ] && [ "$base" != "$near" ]; then  # else less is needed: envforge looks closer
    room=$(free -Pk "$near") nodes=$(free -Pi "$near"); [ "${room:-$kib}" -ge "$kib" ] && [ "${nodes:-$files}" -ge "$files" ] ||
        fail 3 "no room: $kib KiB and $files files are needed, ${room:-any} and ${nodes:-any} are free" "$near" "name a --prefix elsewhere"; fi
check manifest.json "$manifest" "$manifest_at" "$manifest_size"
if [ -z "$runtime" ]; then work='' tool=envforge; [ ! -x "$own" ] || tool=$own; command -v "$tool" >/dev/null ||
    fail 3 "the bundle has no runtime, and this node no envforge" "$file" "envforge $mode $shown${prefix:+ --prefix $(quoted "$prefix")}   # where envforge is"; set -- "$tool" "${ask:-$mode}" "$@"
else check runtime.tar.gz "$runtime" "$runtime_at" "$runtime_size"
    new=.work-sh-$(uname -n)-$(began)-$$ work=$base/$new; trap clean EXIT; trap 'exit 129' HUP; trap 'exit 130' INT; trap 'exit 143' TERM
    said=$(make) || { [ -z "$prefix$scratch" ] && base=$PWD near=$PWD work=$PWD/$new && said=$(make); } ||
        fail 3 "cannot make a directory: ${said##*: }" "$work" "$hint"
    said=$(unset TAR_OPTIONS; umask 022; part "$runtime_at" "$runtime_size" | gzip -dc | tar -xf - -C "$work" 2>&1) ||
        fail 3 "cannot unpack the runtime: $said" "$work" "df -k $(quoted "$near")   # or: $hint"
    set -- "$work/runtime/bin/python3" -I -B -m envforge "${ask:-$mode}" "$@"; export ENVFORGE_FROM_BUNDLE="$file"; fi
status=0; "$@" || status=$?; case ${runtime:+$status} in 126 | 127) "$1" -I -c '' 2>/dev/null || fail 3 "the runtime does not start here" "$1" "$hint" ;; esac
tool=envforge; [ -z "$runtime" ] && [ ! -x "$own" ] || tool=$(quoted "$own"); prefix=$(quoted "$prefix")
[ "$mode$quiet$status" != install0 ] || printf 'next: %s\n' ". $prefix/.envforge/activate.sh" "$tool verify $prefix" "$tool history $prefix" >&2
exit "$status"; }
main "$@"; exit
