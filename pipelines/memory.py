"""What becomes of freed memory: a CPU's is kept for the next step, a GPU's is given back when a stage ends.

A training step on a CPU frees some hundred megabytes of activations and allocates as many again a moment later. glibc
returns large freed blocks at once, so the kernel must find and zero the same pages in every step: a third of the
processor's time for large blocks, as in a U-Net on pixels, and little for small ones. `python
scripts/bench.py freed-memory` measures both.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pipelines.errors import in_short

# In bytes: blocks below the first come from the heap, which keeps freed blocks; its free end is trimmed above the
# second, and grows by the third. The parameter numbers are those of glibc's malloc.h.
_MMAP_THRESHOLD, _TRIM_THRESHOLD, _TOP_PAD = -3, -1, -2
_SETTINGS = {
    "MALLOC_MMAP_THRESHOLD_": (_MMAP_THRESHOLD, 2**30),
    "MALLOC_TRIM_THRESHOLD_": (_TRIM_THRESHOLD, 2**31 - 1),
    "MALLOC_TOP_PAD_": (_TOP_PAD, 2**27),
}


def free_models() -> None:
    """Give a GPU's memory back that a finished stage's models held: a cycle of references keeps some of them alive."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()


@contextmanager
def without_looking_for_garbage() -> Iterator[None]:
    """For imports and for opening models: of their objects none is garbage, and looking takes a sixth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def keep_freed_memory() -> bool:
    """Make glibc's malloc keep it, in this process and in its children.

    Settings of the user in the environment stay. The peak is that of the largest step, as before; memory is not
    returned between two stages.

    Returns:
        Whether it was done: not with another C library, or if the environment has settings already.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None or any(name in os.environ for name in _SETTINGS):
        return False
    done = [bool(mallopt(parameter, value)) for parameter, value in _SETTINGS.values()]
    os.environ.update({name: str(value) for name, (_, value) in _SETTINGS.items()})
    return all(done)


def memory_message(error: Exception) -> str | None:
    """One sentence if an error says that memory is short, of the machine or of its GPU; otherwise None."""
    words = ("out of memory", "can't allocate memory")
    if not isinstance(error, MemoryError) and not any(word in str(error) for word in words):
        return None
    return (
        f"the memory does not suffice ({in_short(error)}). Finished work is kept: give fewer faces at once (batch_size,"
        " per_cell, workers) and run the command again, or run it on a larger machine."
    )
