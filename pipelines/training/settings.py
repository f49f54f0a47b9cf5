"""Settings of the training loop and of the detector's training. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipelines.settings import Added, Bystander, Content, Strict, Unit

MAPS = (".png", ".npz")
"""Files of target maps."""


_Beta = Annotated[float, Field(ge=0, lt=1)]


class DecaySettings(Strict):
    """How `schedule: step` lowers the learning rate. The defaults are those of GD-FAS."""

    every: int = Field(100, ge=1, description="Steps between two falls of the rate.")
    factor: float = Field(0.1, gt=0, lt=1, description="Factor of the rate at each.")


class LoopSettings(Strict):
    """Optimiser, schedule, precision and intervals of the one loop that trains every model."""

    steps: int = Field(1000, ge=1, description="Optimiser steps.")
    batch_size: int = Field(
        32, ge=1, le=1_000_000, description="Faces per step of the optimiser, over all processes and micro-batches."
    )
    optimizer: Literal["sgd", "adam", "adamw", "adamw_fused"] = Field(
        "adamw",
        description="`adam` adds the weight decay to the gradient. `adamw_fused` reads weights and moments once, which"
        " is faster for large models; it rounds differently.",
    )
    learning_rate: float = Field(1e-4, gt=0, description="The rate after the warm-up, before the schedule lowers it.")
    weight_decay: float = Field(0.01, ge=0, description="How fast the weights shrink, in units of the rate.")
    decay_vectors: Annotated[bool, Added()] = Field(
        True,
        description="Weight decay of biases, norms and layer scales too, as in the papers' code; DINOv2 was trained"
        " without it.",
    )
    momentum: Unit = Field(0.9, description="For `sgd`.")
    betas: tuple[_Beta, _Beta] = Field((0.9, 0.999), description="For `adam`, `adamw` and `adamw_fused`.")
    schedule: Literal["constant", "cosine", "step"] = Field(
        "constant", description="`cosine` falls to 0 at the last step; `step` falls as `decay` says."
    )
    decay: Annotated[DecaySettings, Added()] = Field(DecaySettings(), description="For `schedule: step`.")
    warmup: int = Field(0, ge=0, description="Steps of linear warm-up from 0.")
    max_grad_norm: float = Field(0.0, ge=0, description="Clip the gradient's norm to this value; 0 does not clip.")
    gradient_accumulation: int = Field(
        1,
        ge=1,
        description="Micro-batches that a step's faces are split into: less memory, more time. Losses that compare"
        " faces, and batch normalisation, see one micro-batch.",
    )
    mixed_precision: Literal["no", "bf16", "fp16"] = Field("no", description="`fp16` needs a GPU.")
    tf32: Annotated[bool, Added()] = Field(
        False,
        description="On a GPU, products of float32 numbers in TF32, channels-last and the fastest kernels: faster, to"
        " three digits. Without it float32 is exact, also in convolutions.",
    )
    deterministic: Annotated[bool, Bystander()] = Field(
        False,
        description="On a GPU, only kernels that give the same bits each time: a resumed run is equal, but slower.",
    )
    workers: Annotated[int | None, Bystander()] = Field(
        None,
        ge=0,
        le=256,
        description="Processes that prepare batches, for each training process; 0 for none. Default: up to 8 on a GPU,"
        " none on a CPU.",
    )
    ema_decay: float = Field(0.0, ge=0, lt=1, description="Decay of the average of the weights; 0 keeps no average.")
    checkpoint_every: Annotated[int, Bystander()] = Field(
        200, ge=1, description="Steps between checkpoints: the most that a crash loses."
    )
    log_every: Annotated[int, Bystander()] = Field(20, ge=1, description="Steps between lines of metrics.jsonl.")
    trackers: Annotated[list[str], Bystander()] = Field(
        [], description="accelerate trackers beside metrics.jsonl, e.g. [tensorboard]."
    )

    @model_validator(mode="after")
    def _decaying(self) -> LoopSettings:
        if self.schedule != "step" and self.decay != DecaySettings():
            raise ValueError("decay is used by schedule: step only: set that schedule, or remove decay")
        return self


class PlateauSettings(Strict):
    """When `schedule: plateau` lowers the learning rate. The defaults are those of Kuznetsov et al."""

    factor: float = Field(0.5, gt=0, lt=1, description="Factor of the learning rate.")
    patience: int = Field(7, ge=1, description="Evaluations without a better loss before the rate is lowered.")
    min_delta: float = Field(1e-4, ge=0, description="A loss must fall by more than this to count as better.")
    min_learning_rate: float = Field(1e-9, ge=0, description="The rate is lowered no further.")


class EarlyStoppingSettings(Strict):
    """When training stops before its last step."""

    patience: int = Field(15, ge=1, description="Evaluations without a better loss before training stops.")
    min_delta: float = Field(0.0, ge=0, description="A loss must fall by more than this to count as better.")


class ExtraLiveSettings(Strict):
    """Extra live faces in every step, as in Table III of the AG-FAS paper. Live to attack stays one to one."""

    dataset: str = Field(
        "corpus",
        description="`corpus`, the benchmark's live corpus in the same dataset; or the folder of a prepared dataset.",
    )
    ratio: float = Field(
        1.0, gt=0, description="Extra live faces per live face of the training domains; the paper uses 1."
    )
    domain: Literal["own", "none"] = Field(
        "own",
        description="Their domain label: `own` is one more training domain, which the discriminators of SSDG and SSAN"
        " must separate; `none` excludes them from the discriminators.",
    )


class FasAugSettings(Strict):
    """FAS-Aug (Cai et al., IJCV 2024): changes of faces, five of eight of which make an attack of a live face."""

    probability: Unit = Field(
        0.5, description="Share of the faces that are changed; half in the public code, a fifth in arXiv 2505.24402."
    )
    operators: Literal[1, 2] = Field(2, description="Operators in turn on a face; 1 in arXiv 2505.24402.")
    sub_policies: int = Field(
        5,
        ge=0,
        description="Sub-policies that a domain has in one pass over its faces, each of fixed operators and strengths;"
        " 0 draws one anew for every face.",
    )
    cue: Literal["refuse", "trace"] = Field(
        "refuse",
        description="For a detector with a cue, whose restorations are of the unchanged faces. `refuse`: an error."
        " `trace`: what keeps the label changes face and restoration alike; the trace of an attack changes the face"
        " alone, so that the cue shows it, as that of a generator which takes every trace out would.",
    )


class PdaSettings(Strict):
    """Patch-wise augmentation (arXiv 2505.24402): patches of attacks are replaced by those of live faces in place."""

    probability: Unit = Field(0.2, description="Share of the attacks that receive patches.")
    ratio: float = Field(
        0.25, gt=0, lt=1, description="Share of an attack's patches that are replaced; not published, 0.25 is ours."
    )
    grid: int | None = Field(
        None, ge=2, le=64, description="Patches in a row and a column. Default: those of the detector's transformer."
    )


class AugmentSettings(Strict):
    """Changes of the training faces beside mirroring and shifting."""

    fas_aug: FasAugSettings | None = Field(None, description="FAS-Aug; `{}` takes its defaults.")
    pda: PdaSettings | None = Field(None, description="Patch-wise augmentation; `{}` takes its defaults.")


class TrainSettings(LoopSettings):
    """The detector's training. The defaults are the paper's; `per_cell` determines the batch size."""

    steps: int = Field(4000, ge=0, description="0 does not train and uses `detector.weights` as published.")
    batch_size: int = Field(60, ge=1, description="Ignored: a step draws per_cell faces of each domain and label.")
    optimizer: Literal["sgd", "adam", "adamw", "adamw_fused"] = Field(
        "sgd", description="`adam` adds the weight decay to the gradient; `adamw_fused` is faster for large models."
    )
    learning_rate: float = Field(1e-3, gt=0, description="The rate after the warm-up, before the schedule lowers it.")
    weight_decay: float = Field(5e-4, ge=0, description="How fast the weights shrink, in units of the rate.")
    schedule: Literal["constant", "cosine", "step", "plateau"] = Field(  # type: ignore[assignment]
        "cosine", description="`plateau` lowers the rate when the loss on the source dev faces stops falling."
    )
    warmup: int = Field(400, ge=0, description="Steps of linear warm-up from 0.")
    per_cell: int = Field(
        10,
        ge=1,
        le=100_000,
        description="Faces of each training domain and label per step, over all processes and micro-batches.",
    )
    flip: Literal["shared", "independent", "none"] = Field(
        "shared",
        description="Random mirroring. `independent` mirrors face and restoration separately, as the public code does"
        " by mistake.",
    )
    shift: int = Field(0, ge=0, description="Largest random shift in pixels, the same for face and cue.")
    augment: Annotated[AugmentSettings, Added()] = AugmentSettings()
    evaluations: int = Field(4, ge=1, description="Checkpoints kept for the selection rules, evenly spaced.")
    plateau: PlateauSettings = Field(PlateauSettings(), description="For `schedule: plateau`.")
    early_stopping: EarlyStoppingSettings | None = Field(
        None, description="End the training when the loss on the source dev faces stops falling."
    )
    look_every: int = Field(
        50,
        ge=1,
        description="Steps between evaluations of the source dev loss, for `schedule: plateau` and `early_stopping`.",
    )
    extra_live: ExtraLiveSettings | None = Field(
        None, description="Live faces beside those of the training domains, in every step."
    )
    depth_maps: Annotated[Path | None, Content(suffixes=MAPS)] = Field(
        None, description="Folder of depth maps, KEY.png or KEY.npz for a face's KEY. Default: pseudo-depth."
    )
    reflection_maps: Annotated[Path | None, Content(suffixes=MAPS)] = Field(
        None, description="Folder of the attacks' reflection maps, with the names of depth maps."
    )

    @property
    def watches(self) -> bool:
        """Whether training evaluates the source dev loss."""
        return self.schedule == "plateau" or self.early_stopping is not None

    @model_validator(mode="after")
    def _watched(self) -> TrainSettings:
        if self.schedule != "plateau" and self.plateau != PlateauSettings():
            raise ValueError("plateau is used by schedule: plateau only: set that schedule, or remove plateau")
        if self.ema_decay > 0:
            raise ValueError("ema_decay is for generators: a detector is evaluated with its own weights; remove it")
        return self


class DistillSettings(LoopSettings):
    """The training of a student by `agfas distill`."""

    steps: int = Field(3000, ge=1, description="Optimiser steps.")
    batch_size: int = Field(64, ge=2, le=100_000, description="Faces per step.")
    learning_rate: float = Field(2e-3, gt=0, description="The rate after the warm-up, before the schedule lowers it.")
    schedule: Literal["constant", "cosine", "step"] = Field("cosine", description="`cosine` falls to 0 at the end.")
    warmup: int = Field(100, ge=0, description="Steps of linear warm-up from 0.")
    size: int = Field(96, ge=32, le=256, description="Side in pixels of the crops that the student sees.")
    temperature: float = Field(
        2.0, gt=0, le=100, description="The teacher's log-odds are divided by it: above 1, sure verdicts differ more."
    )
    per_face: int = Field(
        1, ge=0, le=100, description="Pairs of a live picture and an attack simulated from every live face; 0: none."
    )
    shift: int = Field(4, ge=0, le=64, description="Largest random shift of a face in pixels; it is mirrored too.")
    seed: int = Field(0, ge=0, description="Seed of weights, order, changes and simulated attacks.")

    @model_validator(mode="after")
    def _own_weights(self) -> DistillSettings:
        if self.ema_decay > 0:
            raise ValueError("ema_decay is for generators: a student is saved with its own weights; remove it")
        return self
