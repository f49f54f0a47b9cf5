"""Errors of the user, answered with the fix."""

from __future__ import annotations

from oanet.checks import nearest

__all__ = ["AgfasError", "OtherProcessFailed", "in_short", "nearest"]


class AgfasError(Exception):
    """An error that the user can fix: the message says what was wrong, where, what is allowed and what to do.

    The command line prints only the message, without a traceback, and exits with code 1.
    """


class OtherProcessFailed(AgfasError):
    """Another process failed, with this message; that process prints it, and this one ends without a word."""


def in_short(error: Exception) -> str:
    """An error of another library in one line."""
    return " ".join((str(error) or type(error).__name__).split())[:200]
