"""Random streams named by what they decide, so that no draw depends on order, batch size or process."""

from __future__ import annotations

import hashlib

import numpy as np


def stream(seed: int, *name: object) -> np.random.Generator:
    """The generator of the stream `name`: PCG64 seeded by the first 128 bits of SHA-256 of seed and name.

    Examples:
        >>> stream(0, "flip", 3).integers(10) == stream(0, "flip", 3).integers(10)
        True
    """
    text = "/".join(str(part) for part in (seed, *name))
    digest = hashlib.sha256(text.encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))


def uniform(rng: np.random.Generator, span: tuple[float, float]) -> float:
    """One number, uniform on `span`."""
    return float(rng.uniform(span[0], span[1]))
