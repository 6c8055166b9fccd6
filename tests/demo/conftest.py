from __future__ import annotations

from .support import demo_channel, demo_index, demo_prefix, venv

__all__ = ["demo_channel", "demo_index", "demo_prefix", "venv"]
