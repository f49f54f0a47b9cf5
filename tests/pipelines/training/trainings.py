"""Trains tiny models of every kind in this process's share of a launch, for comparison with other launches.

    python trainings.py FOLDER DTYPE STEPS CASE ...     a case is DETECTOR/OBJECTIVE or a generator's name

Leaves FOLDER/CASE.safetensors with the weights and FOLDER/CASE.json with the losses of every step.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from oanet.batch import FaceBatch
from oanet.detectors import build_detector
from oanet.names import DETECTORS, OBJECTIVES, inference_only, takes_cue
from oanet.objectives import build_objective
from pipelines.processes import is_main
from pipelines.training.loop import fit
from pipelines.training.run import Run
from pipelines.training.settings import LoopSettings

FACES = 7  # no number of processes but one shares them evenly
GENERATORS = ("arcface", "generator", "memae", "deep_svdd", "anoddpm")


def accepted_pairs() -> list[str]:
    """DETECTOR/OBJECTIVE of everything that may be trained together."""
    pairs = []
    for detector in DETECTORS.builtin:
        for objective in OBJECTIVES.builtin if inference_only(detector) is None else ():
            try:
                build(f"{detector}/{objective}")
            except ValueError:
                continue
            pairs.append(f"{detector}/{objective}")
    return pairs


def build(case: str) -> Any:
    """The objective of a case, from a seed."""
    torch.manual_seed(0)
    if "/" in case:
        name, objective = case.split("/")
        detector = build_detector(name, preset="tiny", **({"cue_channels": 6} if takes_cue(name, {}) else {}))
        small: dict[str, Any] = {"hidden": 32, "projection_dim": 16} if objective in ("flip_mcl", "gd_fas") else {}
        small |= {"alignment": 0.9} if objective == "sa_fas" else {}
        return build_objective(objective, detector, num_domains=3, **small)
    return _build_generator(case)


def _build_generator(case: str) -> Any:
    # Imported here: diffusers takes seconds in every process.
    from dfg.arcface import ArcFaceObjective
    from dfg.baselines import build_baseline
    from dfg.baselines.anoddpm import AnoDdpmObjective
    from dfg.baselines.deep_svdd import DeepSvddObjective
    from dfg.baselines.memae import MemAEObjective
    from dfg.identity import IdentityEncoder
    from dfg.objective import DenoisingObjective
    from dfg.schedule import sd_scheduler
    from dfg.unet import build_unet

    if case == "arcface":
        return ArcFaceObjective(IdentityEncoder.from_preset("tiny"), 5)
    if case == "generator":
        unet = build_unet("tiny", in_channels=4, sample_size=8, cross_attention_dim=12)
        return DenoisingObjective(unet, sd_scheduler(), min_snr_gamma=5.0)
    model = build_baseline(case, "tiny", 64)
    if case == "deep_svdd":
        model.center.fill_(0.2)
        return DeepSvddObjective(model)
    return MemAEObjective(model) if case == "memae" else AnoDdpmObjective(model)


class Drawn:
    """Seeded faces of any objective."""

    size = FACES

    def __init__(self, case: str, dtype: torch.dtype) -> None:
        self.case, self.dtype = case, dtype

    def __call__(self, step: int, rows: slice) -> Any:
        draw = torch.Generator().manual_seed(step)

        def normal(*shape: int) -> Tensor:
            return torch.randn(FACES, *shape, generator=draw, dtype=torch.float64).to(self.dtype)[rows]

        position = torch.arange(FACES)
        if "/" in self.case:
            image, cue = normal(3, 64, 64).clamp(-1, 1), normal(6, 64, 64)
            keys = [str(number) for number in position.tolist()][rows]
            label, kind = position % 2, torch.where(position % 2 == 1, 1, position // 2 % 2 * 2)
            return FaceBatch(image, cue, label[rows], (position // 2 % 3)[rows], keys, kind=kind[rows])
        timesteps = torch.randint(1000, (FACES,), generator=draw)[rows]
        if self.case == "generator":
            latents, noise, tokens = normal(4, 8, 8), normal(4, 8, 8), normal(7, 12)
            return {"latents": latents, "noise": noise, "tokens": tokens, "timesteps": timesteps}
        batch = {"image": normal(3, 64, 64).clamp(-1, 1), "identity": (position % 5)[rows]}
        return batch | ({"noise": normal(3, 64, 64), "timesteps": timesteps} if self.case == "anoddpm" else {})


def train(folder: Path, case: str, dtype: torch.dtype, steps: int) -> None:
    """Train a case and leave its weights and losses."""
    objective: nn.Module = build(case).to(dtype)
    name = case.replace("/", "-")
    settings = LoopSettings(
        steps=steps, optimizer="sgd", learning_rate=0.01, log_every=1, checkpoint_every=1000, max_grad_norm=1.0
    )
    run = Run(folder / name, {})
    fit(objective, Drawn(case, dtype), settings, run, title=case)
    if is_main():
        save_file(
            {key: value.contiguous() for key, value in objective.state_dict().items()}, folder / f"{name}.safetensors"
        )
        (folder / f"{name}.json").write_text(json.dumps([line["loss"] for line in run.metrics()]))


@contextmanager
def computed_in(dtype: torch.dtype) -> Iterator[None]:
    """Networks compute their last layers in float32 whatever their weights are; here in the given type."""
    before, single = torch.get_default_dtype(), torch.Tensor.float
    torch.set_default_dtype(dtype)
    if dtype == torch.float64:
        torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.set_default_dtype(before)
        torch.Tensor.float = single  # type: ignore[method-assign]


def train_all(folder: Path, dtype: str, steps: int, cases: Sequence[str]) -> None:
    """`train` every case in a precision."""
    precision = getattr(torch, dtype)
    with computed_in(precision):
        for case in cases:
            train(folder, case, precision, steps)


if __name__ == "__main__":
    train_all(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4:])
