# What `deactivate` sources in tcsh and csh, which have no functions.

if ( ! $?CONDA_PREFIX ) setenv CONDA_PREFIX ''
if ( x$CONDA_PREFIX:q != x@PREFIX@ ) then
    echo 'envforge: @NAME@ is not the active environment'
    exit 1
endif
unalias deactivate
unset _ENVFORGE_ACTIVE
@DEACTIVATE@
if ( $PATH:q == $_ENVFORGE_NEW_PATH:q ) then
    setenv PATH $_ENVFORGE_OLD_PATH:q
else # somebody changed it since: keep that
    set _envforge_path = ()
    if ( "x$_ENVFORGE_OLD_PREFIX" != x ) set _envforge_path = $_ENVFORGE_OLD_PREFIX:q/bin
    foreach _envforge_entry ( $path:q )
        if ( x$_envforge_entry:q != x@PREFIX@/bin ) set _envforge_path = ( $_envforge_path:q $_envforge_entry:q )
    end
    set path = ( $_envforge_path:q )
    unset _envforge_path _envforge_entry
endif
if ( $?_ENVFORGE_OLD_PROMPT ) then
    set prompt = $_ENVFORGE_OLD_PROMPT:q
endif
if ( "x$_ENVFORGE_OLD_PREFIX" != x ) unsetenv CONDA_PREFIX_$_ENVFORGE_OLD_LEVEL
@RESTORE@
unset _ENVFORGE_NEW_PATH _ENVFORGE_OLD_LEVEL _ENVFORGE_OLD_PATH _ENVFORGE_OLD_PROMPT
rehash
if ( "x$_ENVFORGE_OLD_PREFIX" != x ) then
    foreach _envforge_script ( "`sh -fc 'IFS=; LC_ALL=C ls "\$"CONDA_PREFIX/etc/conda/activate.d 2>/dev/null' | sed -n '/[.]csh/p'`" )
        set _envforge_script = $_ENVFORGE_OLD_PREFIX:q/etc/conda/activate.d/$_envforge_script:q
        if ( -f $_envforge_script:q ) source $_envforge_script:q
    end
endif
unset _envforge_script _ENVFORGE_LEAVE _ENVFORGE_OLD_PREFIX
