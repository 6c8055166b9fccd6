"""The conda half: py-rattler solves for a target, and its answers and failures become ours."""

from envforge.resolvers.conda.request import (
    CondaRecord,
    CondaRequest,
    channel_url,
    closure,
    cutoff,
    parse_match_spec,
)
from envforge.resolvers.conda.solver import Solver
from envforge.resolvers.conda.variants import LesserVariant

__all__ = [
    "CondaRecord",
    "CondaRequest",
    "LesserVariant",
    "Solver",
    "channel_url",
    "closure",
    "cutoff",
    "parse_match_spec",
]
