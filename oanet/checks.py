"""Checks of names and numbers; their errors say what was given and what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, allowed: Iterable[str]) -> str:
    """A sentence that lists the allowed names, and suggests the one closest to `name`.

    Examples:
        >>> nearest("oanett", ["oanet", "image_only"])
        "did you mean 'oanet'? Allowed: image_only, oanet."
    """
    names = sorted(allowed)
    close = difflib.get_close_matches(str(name), names, cutoff=0.5)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"{hint}Allowed: {', '.join(names) or 'none'}."


def check_name(what: str, given: str, allowed: Iterable[str]) -> None:
    """Raise ValueError with the allowed names unless `given` is one of them."""
    allowed = tuple(allowed)
    if given not in allowed:
        raise ValueError(f"Unknown {what} {given!r}; {nearest(given, allowed)}")


def check_range(interval: str, **values: float) -> None:
    """Raise ValueError unless every value is in the interval.

    Args:
        interval: in mathematical notation; round brackets exclude the bound.
        **values: numbers by the name of their option.

    Examples:
        >>> check_range("[0, 1)", dropout=1.0)
        Traceback (most recent call last):
        ValueError: dropout = 1.0; it must be in [0, 1).
    """
    low, high = map(float, interval[1:-1].split(","))
    for name, value in values.items():
        above = value >= low if interval[0] == "[" else value > low
        below = value <= high if interval[-1] == "]" else value < high
        if not (above and below):  # also refuses NaN
            raise ValueError(f"{name} = {value}; it must be in {interval}.")
