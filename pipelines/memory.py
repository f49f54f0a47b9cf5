"""Freed memory is kept for the next step instead of being given back to the system.

A training step on a CPU frees some hundred megabytes of activations and asks for as many again a moment later. glibc
gives large freed blocks back at once, so the kernel must find and zero the same pages in every step: a third of the
processor's time where blocks are large, as in a U-Net in pixels, and little where they are small. `python
scripts/bench.py freed-memory` measures both.
"""

from __future__ import annotations

import ctypes
import os
import sys

# Blocks below this come from the heap, which keeps what is freed; the heap's free end is trimmed above the second
# number, and grows by the third, all in bytes. The numbers of the parameters are those of glibc's malloc.h.
_MMAP_THRESHOLD, _TRIM_THRESHOLD, _TOP_PAD = -3, -1, -2
_SETTINGS = {
    "MALLOC_MMAP_THRESHOLD_": (_MMAP_THRESHOLD, 2**30),
    "MALLOC_TRIM_THRESHOLD_": (_TRIM_THRESHOLD, 2**31 - 1),
    "MALLOC_TOP_PAD_": (_TOP_PAD, 2**27),
}


def plain_environment() -> dict[str, str]:
    """This process's environment without settings of malloc: that of a program which does not keep freed memory."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}


def keep_freed_memory() -> bool:
    """Tell glibc's malloc to keep it, here and in every process that this one starts.

    What the user has set in the environment stays. Peak memory is that of the greatest step, as before; memory between
    two stages is not given back.

    Returns:
        Whether it was done: not where the C library is another than glibc, or the environment has settings already.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None or any(name in os.environ for name in _SETTINGS):
        return False
    done = [bool(mallopt(parameter, value)) for parameter, value in _SETTINGS.values()]
    os.environ.update({name: str(value) for name, (_, value) in _SETTINGS.items()})
    return all(done)
