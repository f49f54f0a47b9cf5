"""Keeps a face's result a function of that face: keyed noise, seeded weights, evaluation mode.

The noise of a face must not depend on its batch, its position, the number of workers or the device. Otherwise a cue
store could be neither resumed nor verified.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn


def generator_for_key(key: str, seed: int = 0) -> torch.Generator:
    """A CPU generator seeded from the SHA-256 of `"{seed}:{key}"`: the same on every machine."""
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    # 63 bits: torch takes a signed 64-bit seed, and would remap a negative one.
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def noise_from_generators(
    generators: Sequence[torch.Generator],
    shape: tuple[int, ...],
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Standard normal noise (len(generators), *shape); row i is drawn from generators[i].

    Drawn in float32 on each generator's device and converted afterwards, so that the values depend on neither
    `device` nor `dtype`.

    Raises:
        ValueError: `generators` is empty.
    """
    if not generators:
        raise ValueError("cannot draw noise for zero faces: give at least one key or generator.")
    rows = [torch.randn(shape, generator=g, device=g.device) for g in generators]
    if len({row.device for row in rows}) > 1:
        rows = [row.to(device) for row in rows]
    return to_device(torch.stack(rows), device).to(dtype)


def to_device(values: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """The values on `device`; the host does not wait for a GPU, which copies them after the kernels queued before."""
    if values.device.type == "cpu" and torch.device(device).type == "cuda":
        return values.pin_memory().to(device, non_blocking=True)  # of pageable memory, the copy would wait
    return values.to(device)


def noise_for_keys(
    keys: Sequence[str],
    shape: tuple[int, ...],
    seed: int = 0,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Standard normal noise (len(keys), *shape); row i depends on keys[i], `seed` and `shape` only.

    Args:
        keys: of the records, `domain/subject/video/frame`.
        shape: of one face's latents, (C, h, w).
        seed: another seed gives every key other noise.
        device, dtype: of the result; they do not change the values drawn.

    Raises:
        ValueError: `keys` is empty, or a single string instead of a sequence of strings.
    """
    if isinstance(keys, str):
        raise ValueError(f"keys must be a sequence of strings, one per face; write keys=[{keys!r}].")
    return noise_from_generators([generator_for_key(key, seed) for key in keys], shape, device, dtype)


def posterior_keys(keys: Sequence[str]) -> list[str]:
    """Names of the streams from which the faces' latents are drawn, beside those of their noise."""
    return [f"posterior/{key}" for key in keys]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Initialise modules from `seed` inside the block.

    torch's layers draw their initial weights from the global CPU generator, whose state is restored afterwards.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients inside the block, the former mode afterwards.

    In training mode, batch normalisation would make a face's result depend on the other faces of its batch.
    """
    training = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(training)
