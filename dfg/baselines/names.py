"""Names, presets and options of the baselines, in plain Python, so that a configuration is checked without torch.

The sizes `paper` are those of the methods' own code on pictures of 256 pixels, in two dimensions where the original
has three; AG-FAS publishes none of its own. `tiny` is for 64 pixels and a processor.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

BASELINE_CLASSES: dict[str, str] = {
    "memae": "dfg.baselines.memae:MemAE",
    "deep_svdd": "dfg.baselines.deep_svdd:DeepSvdd",
    "anoddpm": "dfg.baselines.anoddpm:AnoDdpm",
}
"""Where each baseline lives: `module:class`."""

BASELINES: tuple[str, ...] = tuple(BASELINE_CLASSES)

BASELINES_WITH_TIMESTEP: tuple[str, ...] = ("anoddpm",)
"""Those that noise a face to t and restore it from there."""

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
}

BASELINE_OPTIONS: dict[str, tuple[str, ...]] = {
    "memae": ("channels", "slots", "shrink"),
    "deep_svdd": ("channels", "bottleneck"),
    "anoddpm": ("channels", "layers_per_block", "attention_levels", "norm_num_groups"),
}
"""Arguments of the constructors beside `image_size`; a test keeps them equal to the signatures."""


def check_baseline(name: str, preset: str = "tiny", options: Iterable[str] = ()) -> None:
    """Check a name, a preset and the names of options.

    Raises:
        ValueError: one is unknown; says which are allowed, the nearest first.
    """
    _check("baseline", name, BASELINES)
    _check(f"preset of {name}", preset, tuple(BASELINE_PRESETS[name]))
    for option in options:
        _check(f"option of {name}", option, BASELINE_OPTIONS[name])


def _check(what: str, given: str, allowed: tuple[str, ...]) -> None:
    if given not in allowed:
        close = difflib.get_close_matches(given, allowed, n=1, cutoff=0.5)
        hint = f"did you mean '{close[0]}'? " if close else ""
        raise ValueError(f"unknown {what} '{given}': {hint}Allowed: {', '.join(allowed)}.")
