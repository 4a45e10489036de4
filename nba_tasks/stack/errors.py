"""What goes wrong on a machine, said so that a person can mend it."""

from __future__ import annotations


class StackError(RuntimeError):
    """The stack cannot start or go on; the message says what is wrong and what to do."""
