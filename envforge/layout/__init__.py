"""What a mirror and a bundle hold, and under which paths: pure functions of lockfiles and artifacts.

``plan`` says which artifacts belong in it, ``pages`` derives everything else from them.
"""
