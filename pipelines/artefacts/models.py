"""Saved models by their folders: detectors, generators, baselines. Torch is imported where one is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.errors import AgfasError
from pipelines.fingerprint import file_sha256, folder_sha256

if TYPE_CHECKING:
    from dfg.baselines.base import Baseline
    from dfg.pipeline import DeFakePipeline
    from oanet.detectors import Detector


def load_detector(folder: Path) -> Detector:
    """A saved detector in evaluation mode, on the CPU.

    Raises:
        AgfasError: it is missing or damaged.
    """
    from oanet.detectors import load_detector as load

    with explained(folder, "detector"):
        return load(folder).eval()


def load_pipeline(folder: Path) -> DeFakePipeline:
    """A saved generator.

    Raises:
        AgfasError: its files are missing or damaged.
    """
    from diffusers.utils.logging import disable_progress_bar

    from dfg.pipeline import DeFakePipeline

    disable_progress_bar()  # diffusers' own, over four small files
    with explained(folder, "generator"):
        return DeFakePipeline.from_pretrained(folder, local_files_only=True)


def load_baseline(folder: Path) -> Baseline:
    """A saved baseline.

    Raises:
        AgfasError: its files are missing or damaged.
    """
    from dfg.baselines import load_baseline as load

    with explained(folder, "model"):
        return load(folder)


def snapshot_sha256(folder: Path) -> str:
    """The checksum of a saved detector: of its config, which holds that of its weights."""
    return file_sha256(folder / "config.json")


def autoencoder_sha256(pipeline: Path) -> str:
    """The hash of a saved generator's autoencoder alone, which names the stores of t = 0."""
    return folder_sha256(pipeline / "autoencoder")


def on_device(maker: DeFakePipeline | Baseline) -> DeFakePipeline | Baseline:
    """The generator or baseline, moved to this process's device."""
    from torch import nn

    from pipelines.processes import device

    # nn.Module's own: diffusers' decorators hide the signature of theirs from type checkers.
    return nn.Module.to(maker, device()) if isinstance(maker, nn.Module) else maker.to(device())


@contextmanager
def explained(folder: Path, what: str) -> Iterator[None]:
    """Tell what could not be loaded.

    Raises:
        AgfasError: the body failed.
    """
    try:
        yield
    except Exception as error:  # values of a foreign config reach libraries, which raise errors of any kind
        found = " ".join(str(error).split())[:400]
        named = found if isinstance(error, (OSError, ValueError)) else f"{type(error).__name__}: {found}"
        raise AgfasError(f"The {what} at {folder} cannot be loaded: {named}") from error
