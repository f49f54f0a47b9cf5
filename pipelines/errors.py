"""Errors of the user, answered with the fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AgfasError(Exception):
    """An error that the user can fix: the message says what was wrong, where, what is allowed and what to do.

    The command line prints only the message, without a traceback, and exits with code 1.
    """


def nearest(name: str, allowed: Iterable[str]) -> str:
    """A sentence that names the allowed values, the nearest one to `name` first.

    Examples:
        >>> nearest("oanett", ["oanet", "image_only"])
        "did you mean 'oanet'? Allowed: image_only, oanet."
    """
    names = sorted(allowed)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"{hint}Allowed: {', '.join(names)}."
