"""A small real conda channel and a small real simple index, made on the spot and without network.

``packages`` writes a conda package, ``channel`` a channel of them, ``index`` wheels and their index;
``interpreter`` turns the Python that runs this code into a conda package, and ``library`` makes a
shared library that has a prefix inside.  All of it needs the standard library only, and on Linux the
program ``patchelf``, so that any interpreter can be asked to repackage itself.
"""
