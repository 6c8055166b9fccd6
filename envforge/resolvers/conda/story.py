"""The engine's own story, where the records alone do not tell why: its first branch as a sentence."""

from __future__ import annotations

import re

__all__ = ["first_branch", "roots"]

_LINE = re.compile(r"^(?P<indent>[│ ]*)(?:[├└]─ )?(?P<text>\S.*)$")
_SUBJECT = re.compile(r"(\S+ .*) would (require|constrain)")
_OBJECT = re.compile(r"(.*?), (?:which|for which) (.*)")


def roots(story: str) -> list[str]:
    """The names at the top of the tree: a guess at what is to blame."""
    return re.findall(r"^[├└]─ (\S+)", story, re.MULTILINE)


def first_branch(story: str) -> str | None:
    """``jax 0.4.35 needs jaxlib >=0.4.34, of which no build fits``; ``None`` for any other tree."""
    words: list[str] = []
    deepest = -1
    for line in story.splitlines():
        match = _LINE.match(line)
        subject = _SUBJECT.fullmatch(match["text"]) if match else None
        found = _OBJECT.fullmatch(match["text"]) if match else None
        if match is None or (subject is None and found is None):
            continue
        if len(match["indent"]) <= deepest:
            break
        deepest = len(match["indent"])
        if subject is not None:
            verb = "needs" if subject[2] == "require" else "goes only with"
            words.append(f"which {verb}" if words else f"{subject[1]} {verb}")
        elif found is not None and words and not words[-1].endswith(","):
            words.append(f"{found[1]},")
        if found is not None and words and not found[2].startswith("cannot be installed"):
            words.append("of which no build fits" if "no candidates" in found[2] else "which clashes")
            break
    return " ".join(words).rstrip(",") if len(words) > 2 else None
