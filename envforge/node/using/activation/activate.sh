# Source this to use the environment @NAME@; `deactivate` leaves it again.
# For bash, dash, zsh, busybox sh and other POSIX shells, also under `set -euo pipefail`.

# What is active in this shell already is left first: one of ours, or a virtual environment.
if [ -n "${_ENVFORGE_ACTIVE-}${VIRTUAL_ENV-}" ] && [ "$(command -v deactivate)" = deactivate ]; then
    deactivate 2>/dev/null || :
fi

# "$@", without -e and -u, which many scripts of packages do not survive; all options are then as before.
_envforge_calmly() {
    if [ -n "${ZSH_VERSION-}" ]; then
        emulate -L zsh
        "$@"
        return 0
    fi
    _envforge_flags=$-
    set +e +u
    _envforge_pipefail=$(set +o | grep -e pipefail -e --default 2>/dev/null)
    "$@"
    eval "$_envforge_pipefail"
    for _envforge_flag in a C f u x e; do
        case $_envforge_flags in
            *"$_envforge_flag"*) set "-$_envforge_flag" ;;
            *) set "+$_envforge_flag" ;;
        esac
    done
    unset _envforge_flag _envforge_flags _envforge_pipefail
    return 0
}

# The scripts of directory $1 by their names, with -r the last one first.
_envforge_source() {
    _envforge_directory=$1
    _envforge_left="$(LC_ALL=C command ls ${2-} "$1" 2>/dev/null)
"
    while [ -n "$_envforge_left" ]; do
        _envforge_script=$_envforge_directory/${_envforge_left%%"
"*}
        _envforge_left=${_envforge_left#*"
"}
        case $_envforge_script in
            *.sh) [ -f "$_envforge_script" ] && . "$_envforge_script" ;;
        esac
    done
    unset _envforge_directory _envforge_left _envforge_script
}

# PATH without the entry $1.
_envforge_without() {
    _envforge_path=:${PATH-}:
    while :; do
        case $_envforge_path in
            *":$1:"*) _envforge_path=${_envforge_path%%":$1:"*}:${_envforge_path#*":$1:"} ;;
            *) break ;;
        esac
    done
    _envforge_path=${_envforge_path#:}
    PATH=${_envforge_path%:}
    unset _envforge_path
}

_envforge_enter() {
    # As `conda activate` does: what was active is left, and is named for whoever goes back to it.
    _ENVFORGE_OLD_PREFIX=${CONDA_PREFIX-}
    _ENVFORGE_OLD_LEVEL=${CONDA_SHLVL:-0}
    case $_ENVFORGE_OLD_LEVEL in *[!0-9]* | 0?*) _ENVFORGE_OLD_LEVEL=0 ;; esac
    if [ -n "$_ENVFORGE_OLD_PREFIX" ]; then
        _envforge_source "$_ENVFORGE_OLD_PREFIX/etc/conda/deactivate.d" -r
    fi
    for _envforge_name in @VARIABLES@; do
        eval "_ENVFORGE_HAD_$_envforge_name=\${$_envforge_name+yes}"
        eval "_ENVFORGE_OLD_$_envforge_name=\${$_envforge_name-}"
    done
    unset _envforge_name
    _ENVFORGE_OLD_PATH=${PATH-}
    _ENVFORGE_OLD_PS1=${PS1-}
    if [ -n "${PS1-}" ] && [ -z "${VIRTUAL_ENV_DISABLE_PROMPT-}" ]; then
        PS1="(@NAME@) "${PS1#"${CONDA_PROMPT_MODIFIER-}"}
    fi
    if [ -n "$_ENVFORGE_OLD_PREFIX" ]; then
        _envforge_without "$_ENVFORGE_OLD_PREFIX/bin"
        export "CONDA_PREFIX_$_ENVFORGE_OLD_LEVEL=$_ENVFORGE_OLD_PREFIX"
    fi
    _envforge_without @PREFIX@/bin
    export PATH=@PREFIX@/bin"${PATH:+:$PATH}"
    _ENVFORGE_NEW_PATH=$PATH
    export CONDA_SHLVL="$((_ENVFORGE_OLD_LEVEL + 1))"
@SETTINGS@
    _envforge_source @PREFIX@/etc/conda/activate.d
    _ENVFORGE_ACTIVE=yes
    hash -r 2>/dev/null
}

_envforge_leave() {
    _envforge_source @PREFIX@/etc/conda/deactivate.d -r
    if [ "${PATH-}" = "$_ENVFORGE_NEW_PATH" ]; then
        PATH=$_ENVFORGE_OLD_PATH
    else # somebody changed it since: keep that
        _envforge_without @PREFIX@/bin
        PATH=${_ENVFORGE_OLD_PREFIX:+$_ENVFORGE_OLD_PREFIX/bin:}$PATH
    fi
    if [ -n "$_ENVFORGE_OLD_PS1" ]; then
        PS1=$_ENVFORGE_OLD_PS1
    fi
    for _envforge_name in @VARIABLES@; do
        if eval "[ -n \"\$_ENVFORGE_HAD_$_envforge_name\" ]"; then
            eval "export $_envforge_name=\"\$_ENVFORGE_OLD_$_envforge_name\""
        else
            unset "$_envforge_name"
        fi
        unset "_ENVFORGE_HAD_$_envforge_name" "_ENVFORGE_OLD_$_envforge_name"
    done
    if [ -n "$_ENVFORGE_OLD_PREFIX" ]; then
        unset "CONDA_PREFIX_$_ENVFORGE_OLD_LEVEL"
        _envforge_source "$_ENVFORGE_OLD_PREFIX/etc/conda/activate.d"
    fi
    unset _envforge_name _ENVFORGE_ACTIVE _ENVFORGE_NEW_PATH
    unset _ENVFORGE_OLD_LEVEL _ENVFORGE_OLD_PATH _ENVFORGE_OLD_PREFIX _ENVFORGE_OLD_PS1
    hash -r 2>/dev/null
}

deactivate() {
    if [ "${CONDA_PREFIX-}" != @PREFIX@ ]; then
        echo "envforge: @NAME@ is not the active environment" >&2
        return 1
    fi
    _envforge_calmly _envforge_leave
    unset -f deactivate _envforge_calmly _envforge_source _envforge_without _envforge_enter _envforge_leave
}

_envforge_calmly _envforge_enter
