"""Other models that restore faces: the baselines of AG-FAS's Table IV, and a student of the generator.

To add one, write a module with a subclass of `dfg.baselines.base.Baseline` and add it to `BASELINE_CLASSES` and
`BASELINE_PRESETS`. This module imports no torch until a model is built, so that configurations are checked quickly.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

BASELINE_CLASSES: dict[str, str] = {
    "memae": "dfg.baselines.memae:MemAE",
    "deep_svdd": "dfg.baselines.deep_svdd:DeepSvdd",
    "anoddpm": "dfg.baselines.anoddpm:AnoDdpm",
    "one_call": "dfg.baselines.one_call:OneCall",
}
"""`module:class` of each baseline."""

BASELINES: tuple[str, ...] = tuple(BASELINE_CLASSES)

BASELINES_WITH_TIMESTEP: tuple[str, ...] = ("anoddpm",)
"""Baselines that noise a face to timestep t and denoise it."""

# `paper` has the sizes of each method's own code at 256 pixels, in two dimensions where the original has three: AG-FAS
# publishes none. `tiny` is for 64 pixels and a CPU, `compact`, of no paper, for 256. A preset lists all options of its
# constructor beside `image_size`.
BASELINE_PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "memae": {
        "tiny": {"channels": (16, 32, 64, 64), "slots": 500, "shrink": 0.0025},
        "paper": {"channels": (96, 128, 256, 256), "slots": 2000, "shrink": 0.0025},
    },
    "deep_svdd": {
        "tiny": {"channels": (16, 32, 64, 64), "bottleneck": 128},
        "paper": {"channels": (96, 128, 256, 256), "bottleneck": 128},
    },
    "anoddpm": {
        "tiny": {"channels": (16, 16, 32, 32), "layers_per_block": 1, "attention_levels": 1, "norm_num_groups": 8},
        "paper": {
            "channels": (128, 128, 256, 256, 512, 512),
            "layers_per_block": 2,
            "attention_levels": 2,
            "norm_num_groups": 32,
        },
    },
    "one_call": {
        "tiny": {"channels": (48, 96, 192), "blocks": 1, "patch": 4},
        "compact": {"channels": (64, 128, 256), "blocks": 1, "patch": 4},
    },
}


def check_baseline(name: str, preset: str = "tiny", options: Iterable[str] = ()) -> None:
    """Check a baseline's name, its preset and the names of its options.

    Raises:
        ValueError: one is unknown; suggests the nearest and lists what is allowed.
    """
    _check("baseline", name, BASELINES)
    _check(f"preset of {name}", preset, BASELINE_PRESETS[name])
    for option in options:
        _check(f"option of {name}", option, BASELINE_PRESETS[name][preset])


def baseline_class(name: str) -> Any:
    """The class of a baseline.

    Raises:
        ValueError: an unknown name.
    """
    check_baseline(name)
    module, class_name = BASELINE_CLASSES[name].split(":")
    return getattr(import_module(module), class_name)


def build_baseline(name: str, preset: str, image_size: int, seed: int = 0, **options: Any) -> Any:
    """A randomly initialised baseline in training mode.

    Args:
        name: `memae`, `deep_svdd`, `anoddpm` or `one_call`.
        preset: `tiny`, or `paper`; of `one_call`, `compact`.
        image_size: side of the faces in pixels.
        seed: of the initial weights; torch's global random state is not changed.
        options: of the constructor; they replace the preset's.

    Raises:
        ValueError: an unknown name, preset or option, or values that do not fit each other.
    """
    from dfg.noise import seeded

    check_baseline(name, preset, options)
    with seeded(seed):
        return baseline_class(name)(image_size=image_size, **{**BASELINE_PRESETS[name][preset], **options}).train()


def load_baseline(folder: str | Path) -> Any:
    """Load a baseline saved by `save_pretrained`, in evaluation mode, on the CPU.

    Only the classes of `BASELINE_CLASSES` are instantiated.

    Raises:
        ValueError: the folder holds no baseline, or its files do not fit each other.
    """
    place = Path(folder)
    try:
        class_name = json.loads((place / "config.json").read_text(encoding="utf-8"))["_class_name"]
        name = next(name for name, path in BASELINE_CLASSES.items() if path.split(":")[1] == class_name)
        return baseline_class(name).from_pretrained(
            place, use_safetensors=True, local_files_only=True, low_cpu_mem_usage=False
        )
    except StopIteration:
        raise ValueError(f"{place} holds a {class_name}, which is not one of {', '.join(BASELINE_CLASSES)}.") from None
    except Exception as error:  # a foreign config's values reach the constructors of layers, which raise anything
        raise ValueError(f"{place} holds no baseline that can be loaded: {error}") from error


def _check(what: str, given: str, allowed: Iterable[str]) -> None:
    if given not in allowed:
        close = difflib.get_close_matches(given, allowed, cutoff=0.5)
        hint = f"did you mean '{close[0]}'? " if close else ""
        raise ValueError(f"unknown {what} '{given}': {hint}Allowed: {', '.join(allowed)}.")
