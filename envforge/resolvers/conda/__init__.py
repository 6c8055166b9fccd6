"""The conda half: py-rattler solves for a target, and its answers and failures become ours.

The solver has a module of its own, because words and nouns alone are wanted quickly, and without a network.
"""

from envforge.resolvers.conda.request import (
    CondaRecord,
    CondaRequest,
    closure,
    parse_match_spec,
)
from envforge.resolvers.conda.variants import LesserVariant

__all__ = [
    "CondaRecord",
    "CondaRequest",
    "LesserVariant",
    "closure",
    "parse_match_spec",
]
