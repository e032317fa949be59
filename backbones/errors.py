"""Errors that a user can fix: one paragraph that says what is wrong, where, and how to fix it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class InputError(Exception):
    """Data, weights or a machine that cannot be worked with. The message is the whole paragraph.

    options: what to append to the same command so that it works; the command line prints the whole command.
    """

    exit_code = 1

    def __init__(self, text: str, *, options: Sequence[str] = ()) -> None:
        super().__init__(text)
        self.options = tuple(options)


class AbsentError(InputError):
    """Absent data, in contrast to wrong data."""


class UsageError(InputError):
    """A wrong call: an unknown name, an option that does not fit."""

    exit_code = 2


def unknown(kind: str, name: str, known: Iterable[str], *, hint: str = "") -> UsageError:
    """The error for a name that is not in a registry: it shows the nearest names, else all of them."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if not near:
        near = [other for other in known if name.lower() in other.lower()][:3]
    offer = f"Did you mean {', '.join(near)}?" if near else f"Known: {', '.join(known) or 'none'}."
    return UsageError(" ".join(part for part in (f"Unknown {kind} '{name}'.", offer, hint) if part))
