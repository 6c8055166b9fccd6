"""``render``: recipes, text that another tool builds an image from.

A recipe is a function of its arguments: no clock, no path of this machine but those that were typed.
Everything is decided in Python; templates only print, and the text is checked before anyone sees it.
"""
