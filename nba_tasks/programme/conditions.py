"""Conditions over the state's columns, in a small part of SQL: read here, so that nothing else can reach the database.

    segment in ('regular', 'loyal') and (purchases >= 2 or not days_since_purchase > 90)

A comparison is a feature, an operator, and a number or one of the feature's categories.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

TOKEN = re.compile(r"\s*(?:(<>|!=|<=|>=|[=<>(),])|(-?\d+(?:\.\d+)?)|'((?:[^']|'')*)'|([A-Za-z_]\w*))")
COMPARISONS = {"=", "<>", "!=", "<", "<=", ">", ">="}
WORDS = {"and", "or", "not", "in", "between"}


@dataclass
class Reader:
    """Reads a condition, from left to right, into SQL.

    Parameters
    ----------
    text : str
    columns : mapping of feature to SQL
    categories : mapping of feature to the names of its values
        The feature is their position; empty for numbers.
    """

    text: str
    columns: Mapping[str, str]
    categories: Mapping[str, Sequence[str]]
    _position: int = field(default=0, init=False)
    _before: int = field(default=0, init=False)

    def sql(self) -> str:
        """The condition as SQL.

        Raises
        ------
        ValueError
            Says where it cannot be read on, and what may stand there.
        """
        found = self._any()
        if self._rest():
            raise self._stuck("and, or, or the end")
        return found

    def _any(self) -> str:
        parts = [self._all()]
        while self._take("or"):
            parts.append(self._all())
        return f"({' or '.join(parts)})"

    def _all(self) -> str:
        parts = [self._one()]
        while self._take("and"):
            parts.append(self._one())
        return f"({' and '.join(parts)})"

    def _one(self) -> str:
        if self._take("not"):
            return f"(not {self._one()})"
        if self._take("("):
            found = self._any()
            self._must(")")
            return found
        return self._comparison()

    def _comparison(self) -> str:
        feature = self._feature()
        column = f"({self.columns[feature]})"
        negated = "not " if self._take("not") else ""
        if self._take("in"):
            self._must("(")
            values = [self._value(feature)]
            while self._take(","):
                values.append(self._value(feature))
            self._must(")")
            return f"{column} {negated}in ({', '.join(values)})"
        if self._take("between"):
            low = self._value(feature)
            self._must("and")
            return f"{column} {negated}between {low} and {self._value(feature)}"
        if negated:
            raise self._stuck("in or between")
        symbol, _, _, _ = self._next()
        if symbol not in COMPARISONS:
            raise self._stuck(f"{', '.join(sorted(COMPARISONS))}, in or between", back=True)
        return f"{column} {symbol} {self._value(feature)}"

    def _feature(self) -> str:
        _, _, _, word = self._next()
        if word is None or word not in self.columns:
            raise self._stuck(f"one of the state: {', '.join(self.columns)}", back=True)
        return word

    def _value(self, feature: str) -> str:
        _, number, text, _ = self._next()
        named = self.categories.get(feature) or ()
        if text is not None and text.replace("''", "'") in named:
            return f"{named.index(text.replace(chr(39) * 2, chr(39)))}::real"
        if number is not None and not named:
            # As the state keeps it: an equality must not hang on digits that are not there.
            return f"{number}::real"
        raise self._stuck(" or ".join(f"'{name}'" for name in named) or "a number", back=True)

    # Tokens ----------------------------------------------------------------------------------------------------------

    def _rest(self) -> str:
        return self.text[self._position :].strip()

    def _next(self) -> tuple[str | None, str | None, str | None, str | None]:
        self._before = self._position
        match = TOKEN.match(self.text, self._position)
        if match is None:
            return None, None, None, None
        self._position = match.end()
        symbol, number, text, word = match.groups()
        return symbol, number, text, word

    def _take(self, wanted: str) -> bool:
        position = self._position
        symbol, _, _, word = self._next()
        if symbol == wanted or (wanted in WORDS and word is not None and word.lower() == wanted):
            return True
        self._position = position
        return False

    def _must(self, wanted: str) -> None:
        if not self._take(wanted):
            raise self._stuck(wanted)

    def _stuck(self, expected: str, *, back: bool = False) -> ValueError:
        at = self._before if back else self._position
        rest = self.text[at:].strip()
        return ValueError(
            f"cannot read on at {rest[:30]!r}: expected {expected}" if rest else f"ends before {expected}"
        )
