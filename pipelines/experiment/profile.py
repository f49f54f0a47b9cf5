"""Which arithmetic an experiment computes in: a recent NVIDIA GPU's fast one, or float32. Imports no torch.

The profile fills in settings that a configuration leaves open, so that names of artefacts tell the arithmetic and never
the machine. With `profile: auto` the first command that makes something chooses, and the output folder remembers:
another machine then reads and continues what was begun.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from pipelines.cues.settings import CueSettings
from pipelines.devices import compute_capability
from pipelines.experiment.config import Experiment
from pipelines.files import read_json, write_json
from pipelines.training.settings import LoopSettings

Settings = TypeVar("Settings", bound=BaseModel)

PROFILE_NAME = "profile.json"

_TRAINING = {"tf32": True}
_RESTORING = {"dtype": "bfloat16", "channels_last": True, "tf32": True}  # and `compile`, where there is a C compiler
_WITH_TF32 = 8  # the compute capability, as of A100 and RTX 3090, from which on TF32 and bfloat16 are fast


def in_profile(experiment: Experiment) -> Experiment:
    """The experiment with its profile chosen, and what the profile fills in."""
    known = _remembered(experiment.root)
    chosen = experiment.profile if experiment.profile != "auto" else known.get("profile") or _choice(experiment.root)
    decided = experiment.model_copy(update={"profile": chosen})
    if chosen == "exact":
        return decided
    restores = experiment.generator.name == "dfg" and not experiment.cue.is_custom
    restoring = {**_RESTORING, "compile": known.get("compile", _has_compiler())} if restores else {}
    return _filled(decided, restoring)


def remember_profile(experiment: Experiment) -> None:
    """Keep the profile in the output folder, for `auto` there."""
    if experiment.profile != "auto" and not _remembered(experiment.root):
        write_json(experiment.root / PROFILE_NAME, {"profile": experiment.profile, "compile": _has_compiler()})


def _remembered(root: Path) -> dict[str, Any]:
    path = root / PROFILE_NAME
    return read_json(path, profile=str, compile=bool) if path.is_file() else {}


def _choice(root: Path) -> str:
    begun = root.is_dir() and any(root.iterdir())  # by an earlier version, which knew no profile
    return "gpu" if not begun and compute_capability() >= _WITH_TF32 else "exact"


def _filled(settings: Settings, restoring: dict[str, Any]) -> Settings:
    """The settings with the profile's values wherever none was given."""
    blocks = {name: getattr(settings, name) for name in type(settings).model_fields if name != "sweep"}
    changes = {name: _filled(block, restoring) for name, block in blocks.items() if isinstance(block, BaseModel)}
    values: dict[str, Any] = restoring if isinstance(settings, CueSettings) else {}
    if isinstance(settings, LoopSettings):
        values = {**_TRAINING, "optimizer": "adamw_fused" if settings.optimizer == "adamw" else settings.optimizer}
    given = settings.model_fields_set
    return settings.model_copy(update={**changes, **{name: values[name] for name in values if name not in given}})


def _has_compiler() -> bool:
    """Whether torch.compile can build what a GPU's kernels are started by."""
    return any(map(shutil.which, ("cc", "gcc", "clang")))
