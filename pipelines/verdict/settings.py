"""What a saved folder says of itself, typed: everything that decides a score, and everything that its card tells."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any, Final, Literal

from pydantic import Field, field_validator

from pipelines.cues.settings import CONTROLS, RESTORING
from pipelines.evaluation.thresholds import SOURCE_RULES
from pipelines.experiment.config import CueSettings
from pipelines.experiment.generator import Strict

FORMAT: Final = "agfas face anti-spoofing"
VERSION: Final = 1
WITH_RESTORATION = (*RESTORING, "autoencoder")
"""Sources of a cue that is made from restored faces; `shuffled` is none that a single picture could have."""


class FaceSettings(Strict):
    """How a face becomes the crop that the models were trained on."""

    size: int = Field(description="Side in pixels of the crops that generator and detector see.")
    crop_size: int = Field(description="Side at which a face is aligned, before it is resized to `size`.")
    template: str = Field(description="Name in `pipelines.data.alignment.TEMPLATES`.")
    template_known: bool = Field(description="False where the training's crops were aligned elsewhere.")
    detector: str | None = Field(None, description="Who found the training's faces; None where it is not recorded.")
    min_score: float = Field(0.0, description="Faces of a lower detector score are taken for none.")
    enhancement: dict[str, Any] | None = Field(None, description="Arguments of `enhance.Enhancement`; None without.")


class InputNormalisation(Strict):
    """The models' input is `(pixel - mean) / scale` of 8-bit RGB."""

    mean: float = Field(127.5, ge=127.5, le=127.5, description="All networks here are trained with it.")
    scale: float = Field(127.5, ge=127.5, le=127.5, description="Likewise.")


class ThresholdSettings(Strict):
    """Live is score >= value."""

    value: float
    rule: str = Field(description="Name of the threshold rule.")
    selection: str = Field(description="Name of the rule that chose the checkpoint.")
    step: int = Field(description="Training step of the checkpoint.")
    origin: str

    @property
    def honest(self) -> bool:
        """Whether neither threshold nor checkpoint was chosen on the videos that the error rates are of."""
        return self.rule in SOURCE_RULES and self.selection != "oracle"


class LoadedPart(Strict):
    """A face detector or face parser: loaded, not trained here."""

    name: str
    weights: str | None = Field(None, description="Its file in the saved folder; None where it was not copied.")
    fingerprint: dict[str, Any] = Field(description="Everything that decides what it finds.")
    licence: str = Field(description="Of its weights.")


class Count(Strict):
    """Training faces of one domain and kind."""

    domain: str
    kind: str = Field(description="`live` or the attack type.")
    split: str
    faces: int
    videos: int
    subjects: int


class Measured(Strict):
    """Error rates on the test videos of the fold, at the saved threshold; rates in [0, 1]."""

    domains: list[str]
    live_videos: int
    attack_videos: int
    hter: float
    far: float
    bpcer: float
    acer: float
    auc: float
    apcer_per_type: dict[str, float]
    videos_per_type: dict[str, int] = Field(description="Attack videos of each type.")
    intervals: dict[str, tuple[float, float]] = Field(
        description="95 % ends by rate; `apcer TYPE` for each attack type."
    )
    replicates: int


class GeneratorFacts(Strict):
    """What the generator was trained on."""

    domains: list[str]
    live_faces: int
    steps: int
    preset: str


class Part(Strict):
    """One part of the folder and its licence."""

    what: str
    source: str
    licence: str


class About(Strict):
    """What the model card tells of the run."""

    dataset: str
    dataset_fingerprint: str
    drawn: bool = Field(description="Whether the faces are drawn by a program and show no person.")
    train_domains: list[str]
    counts: list[Count]
    objective: str
    seed: int
    steps: int
    parameters: int
    generator: GeneratorFacts | None
    measured: Measured
    parts: list[Part]
    versions: dict[str, str]


class ModelSettings(Strict):
    """Everything that decides a score beside the weights."""

    label: str = Field(description="Title of the experiment.")
    fold: str = Field(description="Name of the protocol's fold that the detector is of.")
    detector: str = Field(description="Name of the detector's class.")
    face: FaceSettings
    cue: CueSettings | None = Field(description="How the second input is made; None where there is none.")
    threshold: ThresholdSettings
    input: InputNormalisation = InputNormalisation()
    face_detector: LoadedPart | None = None
    face_parser: LoadedPart | None = None

    @property
    def needs_generator(self) -> bool:
        """Whether a score needs a restoration."""
        return self.cue is not None and self.cue.source in WITH_RESTORATION

    @property
    def is_control(self) -> bool:
        """Whether the cue carries nothing that a generator knows of real faces."""
        return self.cue is not None and self.cue.source in CONTROLS

    @property
    def needs_mask(self) -> bool:
        """Whether the cue is kept on the face alone."""
        return self.cue is not None and self.cue.mask == "face"


class SavedModel(Strict):
    """The whole settings file of a saved folder."""

    format: Literal["agfas face anti-spoofing"] = FORMAT
    version: Literal[1] = VERSION
    settings: ModelSettings
    about: About
    files: dict[str, str] = Field(description="SHA-256 of every file of the models, by path in the folder.")

    @field_validator("files")
    @classmethod
    def _inside(cls, files: dict[str, str]) -> dict[str, str]:
        for name in files:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or "\\" in name:
                raise ValueError(f"'{name}' does not lie in the folder")
        return files
