# Source this to use the environment @NAME@; `deactivate` leaves it again.  For fish 3 and newer.

# What is active in this shell already is left first: one of ours, or a virtual environment.
if begin
        set -q _ENVFORGE_ACTIVE; or set -q VIRTUAL_ENV
    end; and functions -q deactivate
    deactivate 2>/dev/null
end

# The scripts of directory $argv[1] by their names, with -r the last one first.
function _envforge_source
    for script in (env LC_ALL=C ls $argv[2..-1] $argv[1] 2>/dev/null)
        if string match -q '*.fish' -- $script; and test -f "$argv[1]/$script"
            source "$argv[1]/$script"
        end
    end
end

# The entries of PATH without $argv[1].
function _envforge_without
    for entry in $PATH
        test "$entry" = "$argv[1]"; or printf '%s\n' $entry
    end
end

function _envforge_enter
    # As `conda activate` does: what was active is left, and is named for whoever goes back to it.
    set -g _ENVFORGE_OLD_PREFIX $CONDA_PREFIX
    set -g _ENVFORGE_OLD_LEVEL 0
    string match -q -r '^[1-9][0-9]*$' -- "$CONDA_SHLVL"; and set -g _ENVFORGE_OLD_LEVEL $CONDA_SHLVL
    if test -n "$_ENVFORGE_OLD_PREFIX"
        _envforge_source $_ENVFORGE_OLD_PREFIX/etc/conda/deactivate.d -r
    end
    for name in @VARIABLES@
        set -e _ENVFORGE_OLD_$name
        set -q $name; and set -g _ENVFORGE_OLD_$name $$name
    end
    set -g _ENVFORGE_OLD_PATH $PATH
    if test -n "$_ENVFORGE_OLD_PREFIX"
        set -gx PATH (_envforge_without $_ENVFORGE_OLD_PREFIX/bin)
        set -gx CONDA_PREFIX_$_ENVFORGE_OLD_LEVEL $_ENVFORGE_OLD_PREFIX
    end
    set -gx PATH @PREFIX@/bin (_envforge_without @PREFIX@/bin)
    set -g _ENVFORGE_NEW_PATH $PATH
    set -gx CONDA_SHLVL (math $_ENVFORGE_OLD_LEVEL + 1)
@SETTINGS@
    _envforge_source @PREFIX@/etc/conda/activate.d
    set -g _ENVFORGE_ACTIVE yes
end

function _envforge_leave
    _envforge_source @PREFIX@/etc/conda/deactivate.d -r
    if test "$PATH" = "$_ENVFORGE_NEW_PATH"
        set -gx PATH $_ENVFORGE_OLD_PATH
    else # somebody changed it since: keep that
        set -gx PATH (_envforge_without @PREFIX@/bin)
        test -n "$_ENVFORGE_OLD_PREFIX"; and set -gx PATH $_ENVFORGE_OLD_PREFIX/bin $PATH
    end
    for name in @VARIABLES@
        set -l old _ENVFORGE_OLD_$name
        set -e $name
        set -q $old; and set -gx $name $$old
        set -e $old
    end
    if test -n "$_ENVFORGE_OLD_PREFIX"
        set -e CONDA_PREFIX_$_ENVFORGE_OLD_LEVEL
        _envforge_source $_ENVFORGE_OLD_PREFIX/etc/conda/activate.d
    end
    if functions -q _envforge_old_prompt
        functions -e fish_prompt
        functions -c _envforge_old_prompt fish_prompt
        functions -e _envforge_old_prompt _envforge_status
    end
    set -e _ENVFORGE_ACTIVE _ENVFORGE_NEW_PATH _ENVFORGE_OLD_LEVEL _ENVFORGE_OLD_PATH _ENVFORGE_OLD_PREFIX
end

function deactivate
    if test "$CONDA_PREFIX" != @PREFIX@
        echo "envforge: @NAME@ is not the active environment" >&2
        return 1
    end
    _envforge_leave
    functions -e deactivate _envforge_source _envforge_without _envforge_enter _envforge_leave
end

_envforge_enter

# Conda's own integration shows the name by itself.
if status is-interactive; and not functions -q __conda_add_prompt; and not set -q VIRTUAL_ENV_DISABLE_PROMPT
    functions -c fish_prompt _envforge_old_prompt
    function _envforge_status
        return $argv[1]
    end
    function fish_prompt
        set -l last $status
        printf '(@NAME@) '
        _envforge_status $last
        _envforge_old_prompt
    end
end
