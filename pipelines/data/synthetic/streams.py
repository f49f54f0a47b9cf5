"""Random streams named by what they decide, so that no draw depends on order, batch or process."""

from __future__ import annotations

import hashlib

import numpy as np


def stream(seed: int, *name: str | int) -> np.random.Generator:
    """The generator of the stream `name`: PCG64 seeded by SHA-256 of the seed and the name."""
    text = "/".join(str(part) for part in (seed, *name))
    digest = hashlib.sha256(text.encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))


def uniform(rng: np.random.Generator, span: tuple[float, float]) -> float:
    """One number, evenly from `span`."""
    return float(rng.uniform(span[0], span[1]))
