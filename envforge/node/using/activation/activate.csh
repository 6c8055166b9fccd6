# Source this to use the environment @NAME@; `deactivate` leaves it again.  For tcsh and csh.

# What is active in this shell already is left first: one of ours, or a virtual environment.
if ( $?_ENVFORGE_ACTIVE || $?_OLD_VIRTUAL_PATH ) then
    deactivate
endif

# As `conda activate` does: what was active is left, and is named for whoever goes back to it.
set _ENVFORGE_OLD_PREFIX = ""
if ( $?CONDA_PREFIX ) then
    set _ENVFORGE_OLD_PREFIX = $CONDA_PREFIX:q
endif
set _ENVFORGE_OLD_LEVEL = 0
if ( $?CONDA_SHLVL ) then
    if ( "x$CONDA_SHLVL" =~ x[1-9] || "x$CONDA_SHLVL" =~ x[1-9][0-9] ) set _ENVFORGE_OLD_LEVEL = $CONDA_SHLVL
endif
if ( "x$_ENVFORGE_OLD_PREFIX" != x ) then
    foreach _envforge_script ( "`sh -fc 'IFS=; LC_ALL=C ls -r "\$"CONDA_PREFIX/etc/conda/deactivate.d 2>/dev/null' | sed -n '/[.]csh/p'`" )
        set _envforge_script = $_ENVFORGE_OLD_PREFIX:q/etc/conda/deactivate.d/$_envforge_script:q
        if ( -f $_envforge_script:q ) source $_envforge_script:q
    end
endif
@SAVE@
set _ENVFORGE_OLD_PATH = $PATH:q
if ( $?prompt && ! $?VIRTUAL_ENV_DISABLE_PROMPT ) then
    set _ENVFORGE_OLD_PROMPT = $prompt:q
    set prompt = '(@NAME@) '$prompt:q
endif
set _envforge_path = ()
set _envforge_gone = @PREFIX@/bin
if ( "x$_ENVFORGE_OLD_PREFIX" != x ) set _envforge_gone = $_ENVFORGE_OLD_PREFIX:q/bin
foreach _envforge_entry ( $path:q )
    if ( x$_envforge_entry:q == x$_envforge_gone:q || x$_envforge_entry:q == x@PREFIX@/bin ) continue
    set _envforge_path = ( $_envforge_path:q $_envforge_entry:q )
end
set path = ( @PREFIX@/bin $_envforge_path:q )
unset _envforge_path _envforge_entry _envforge_gone
if ( "x$_ENVFORGE_OLD_PREFIX" != x ) setenv CONDA_PREFIX_$_ENVFORGE_OLD_LEVEL $_ENVFORGE_OLD_PREFIX:q
set _ENVFORGE_NEW_PATH = $PATH:q
@ _envforge_level = $_ENVFORGE_OLD_LEVEL + 1
setenv CONDA_SHLVL $_envforge_level
unset _envforge_level
@SETTINGS@
set _ENVFORGE_ACTIVE
set _ENVFORGE_LEAVE = @PREFIX@/.envforge/deactivate.csh
alias deactivate 'source $_ENVFORGE_LEAVE:q'
rehash

# Last, because csh gives up on everything if one of them uses a variable that is not set.
@ACTIVATE@
