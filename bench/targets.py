"""The last lines of every study: one a promise, and an exit status that says whether all are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import typer


@dataclass(frozen=True)
class Target:
    """One promise: a figure that must reach its bound, or not exceed it where `at_most`; `strict` excludes equality."""

    name: str
    figure: float
    bound: float
    strict: bool = False
    at_most: bool = False

    @property
    def holds(self) -> bool:
        """A figure that is not a number keeps no promise."""
        figure, bound = (self.bound, self.figure) if self.at_most else (self.figure, self.bound)
        return figure > bound if self.strict else figure >= bound

    def __str__(self) -> str:
        return f"target {self.name} {self.figure:.4g} {self.bound:.4g} {'ok' if self.holds else 'short'}"


def conclude(targets: Sequence[Target]) -> None:
    """Print the targets and exit, with 1 where one falls short."""
    print(*targets, sep="\n", flush=True)
    raise typer.Exit(not all(target.holds for target in targets))
