"""Other makers of the "real" version of a face: the sources of AG-FAS's Table IV beside its generator.

A new one is a file with a class derived from `Baseline`, and its lines in `dfg.baselines.names`.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from dfg.baselines.names import BASELINE_CLASSES, BASELINE_PRESETS, check_baseline

__all__ = ["baseline_class", "build_baseline", "load_baseline"]


def baseline_class(name: str) -> Any:
    """The class of a baseline.

    Raises:
        ValueError: an unknown name.
    """
    check_baseline(name)
    module, class_name = BASELINE_CLASSES[name].split(":")
    return getattr(import_module(module), class_name)


def build_baseline(name: str, preset: str, image_size: int, seed: int = 0, **options: Any) -> Any:
    """A baseline with fresh weights, in training mode.

    Args:
        name: `memae`, `deep_svdd` or `anoddpm`.
        preset: `tiny` or `paper`.
        image_size: side of the faces in pixels.
        seed: decides the weights; torch's global stream is left as it was.
        options: of the constructor, in place of the preset's.

    Raises:
        ValueError: an unknown name, preset or option, or a size that does not fit.
    """
    from dfg.noise import seeded

    check_baseline(name, preset, options)
    with seeded(seed):
        return baseline_class(name)(image_size=image_size, **{**BASELINE_PRESETS[name][preset], **options}).train()


def load_baseline(folder: str | Path) -> Any:
    """The baseline that `save_pretrained` wrote, in evaluation mode, on the CPU; only classes named here are made.

    Raises:
        ValueError: the folder holds none, or its files do not fit each other.
    """
    import json

    place = Path(folder)
    try:
        class_name = json.loads((place / "config.json").read_text(encoding="utf-8"))["_class_name"]
        name = next(name for name, path in BASELINE_CLASSES.items() if path.split(":")[1] == class_name)
        return baseline_class(name).from_pretrained(
            place, use_safetensors=True, local_files_only=True, low_cpu_mem_usage=False
        )
    except StopIteration:
        raise ValueError(f"{place} holds a {class_name}, which is none of {', '.join(BASELINE_CLASSES)}.") from None
    except (OSError, KeyError, TypeError, RuntimeError, json.JSONDecodeError) as error:
        raise ValueError(f"{place} holds no baseline that can be loaded: {error}") from error
