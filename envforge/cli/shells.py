"""Completion of ``--option=VALUE``, which click leaves to each shell, and each shell does in its own way."""

from __future__ import annotations

from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
)

__all__ = ["register"]


class _Bash(BashComplete):
    """To bash ``=`` is a word of its own, and what follows it is what is completed."""

    def get_completion_args(self) -> tuple[list[str], str]:
        args, incomplete = super().get_completion_args()
        if incomplete == "=":
            incomplete = ""
        elif args[-1:] == ["="]:
            args.pop()
        return args, incomplete


class _WholeWord(ShellComplete):
    """zsh and fish put what is offered in place of the whole word, ``--option=`` included."""

    _before = ""

    def get_completion_args(self) -> tuple[list[str], str]:
        args, incomplete = super().get_completion_args()
        option, equals, _ = incomplete.partition("=")
        self._before = option + equals if option.startswith("--") and equals else ""
        return args, incomplete

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
        return [
            CompletionItem(self._before + item.value, type=item.type, help=item.help)
            for item in super().get_completions(args, incomplete)
        ]


class _Zsh(_WholeWord, ZshComplete):
    pass


class _Fish(_WholeWord, FishComplete):
    pass


def register() -> None:
    """Have click complete by these."""
    for kind in (_Bash, _Zsh, _Fish):
        add_completion_class(kind)
