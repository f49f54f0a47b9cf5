"""The settings file of a saved model: everything that decides a score, and everything that the model card states."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import AfterValidator, Field, SerializerFunctionWrapHandler, model_serializer

from pipelines.cues.settings import CONTROLS, CueSettings
from pipelines.evaluation.settings import CALIBRATED_RULE, DISTILLED_RULE, PUBLISHED_RULE, SOURCE_RULES
from pipelines.settings import Recorded, Strict

VERSION: Final = 2
CALIBRATED_VERSION: Final = 3
"""Of a calibrated model, which programs that know no calibration must not open."""

Sees: TypeAlias = Literal["face", "cue", "both"]
"""What the features of a one-class head are of; of a detector without a cue, the face in any case."""


def _inside(files: dict[str, str]) -> dict[str, str]:
    for name in files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name:
            raise ValueError(f"'{name}' is not a path inside the folder")
    return files


FileHashes: TypeAlias = Annotated[dict[str, str], AfterValidator(_inside)]
"""Hashes of files by their path inside a folder."""


class FaceSettings(Strict):
    """How faces are cropped, as in the training data."""

    size: int = Field(description="Side in pixels of the crops that generator and detector see.")
    crop_size: int = Field(description="Side at which a face is aligned, before it is resized to `size`.")
    template: str = Field(description="Name in `pipelines.data.alignment.TEMPLATES`.")
    template_known: bool = Field(description="False if the dataset does not state its template.")
    detector: str | None = Field(None, description="Face detector of the training data, if recorded.")
    min_score: float = Field(0.0, description="Faces with a lower detection score are ignored.")
    enhancement: dict[str, Any] | None = Field(None, description="Arguments of `enhance.Enhancement`; None: off.")


class ThresholdSettings(Recorded):
    """A face is live if its score >= value."""

    value: float
    rule: str = Field(description="Name of the threshold rule.")
    selection: str = Field(description="Name of the rule that chose the checkpoint.")
    step: int = Field(description="Training step of the checkpoint.")
    origin: str = Field(description="The scores that the threshold was chosen on, in words.")
    by_class: bool = Field(False, description="Live is instead the most probable of several classes.")

    @property
    def honest(self) -> bool:
        """Whether threshold and checkpoint were chosen without the videos that the error rates are measured on."""
        rules = (*SOURCE_RULES, PUBLISHED_RULE, CALIBRATED_RULE, DISTILLED_RULE)
        return self.rule in rules and self.selection != "oracle"

    def limit(self, classes: Sequence[float]) -> float:
        """The score from which a face is live, given the probability of each kind of attack."""
        return max(classes, default=self.value) if self.by_class else self.value

    @property
    def words(self) -> str:
        """When a face is live, and whose rule that is."""
        when = "no kind of attack is more probable" if self.by_class else f"the score is at least {self.value:.4f}"
        return f"live where {when}: {self.origin}"


class LoadedPart(Strict):
    """A face detector or face parser, which is loaded and not trained by a run."""

    name: str
    weights: str | None = Field(None, description="File name of its weights in the saved folder, if copied.")
    fingerprint: dict[str, Any] = Field(description="Everything that decides its results.")
    licence: str = Field(description="Licence of its weights.")


class Count(Strict):
    """Training faces of one domain and kind."""

    domain: str
    kind: str = Field(description="`live` or the attack type.")
    split: Literal["train", "dev"]
    faces: int
    videos: int
    subjects: int


class Measured(Recorded):
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
        description="95 % intervals by rate; `apcer TYPE` for each attack type."
    )
    replicates: int


class GeneratorFacts(Strict):
    """Training data of the generator."""

    domains: list[str]
    live_faces: int
    steps: int
    preset: str


class Part(Strict):
    """One part of the folder and its licence."""

    what: str
    source: str
    licence: str


class PublishedFacts(Strict):
    """Where weights come from that this program did not train."""

    title: str
    trained_on: str


class About(Strict):
    """What the model card states about the run, or about published weights."""

    dataset: str
    dataset_fingerprint: str
    drawn: bool = Field(description="Whether the faces are drawn by a program and show no person.")
    train_domains: list[str]
    simulated: list[str] = Field([], description="Training domains whose attacks were simulated from live faces.")
    counts: list[Count]
    objective: str
    seed: int
    steps: int
    parameters: int
    generator: GeneratorFacts | None
    measured: Measured | None = Field(description="None: nothing was measured here.")
    parts: list[Part]
    versions: dict[str, str]
    published: PublishedFacts | None = Field(None, description="Of weights that this program did not train.")

    @property
    def attack_types(self) -> list[str]:
        """Attack types of the training faces, sorted."""
        return sorted({count.kind for count in self.counts} - {"live"})


class Calibration(Recorded):
    """What the live faces of `agfas calibrate` gave a model, besides its threshold; rates in [0, 1]."""

    method: Literal["head", "threshold"] = Field(description="With the one-class head, or the threshold alone.")
    sees: Sees = Field("both", description="What the head's features are of.")
    faces: int = Field(description="Live faces that the head was fitted to.")
    captures: int = Field(description="Pictures and videos with one score each.")
    groups: int = Field(description="Persons, or sessions of the one person, each judged without itself.")
    one_person: bool = Field(False, description="Whether all faces are of one person.")
    bpcer: float = Field(description="Share of captures that the threshold was to reject.")
    attained: float = Field(description="Mean over the groups of the share rejected at the threshold of the others.")
    interval: tuple[float, float] = Field(description="Of `attained`, 95 %, exact: as many trials as groups.")

    @property
    def words(self) -> str:
        """What the threshold was chosen on."""
        who = f"of one person in {self.groups} sessions" if self.one_person else f"of {self.groups} persons"
        each = "session" if self.one_person else "person"
        how = f", each {each} judged by a head fitted without it" if self.method == "head" else ""
        return f"chosen on {self.faces:,} live faces {who}{how}, BPCER {100 * self.bpcer:g} %"

    @property
    def promise(self) -> str:
        """How well the threshold keeps it."""
        low, high = (100 * end for end in self.interval)
        each = "session" if self.one_person else "person"
        return (
            f"of {self.captures:,} live pictures and videos, each {each} at the threshold of the others,"
            f" {100 * self.attained:.1f} % are rejected (95 % interval {low:.1f} to {high:.1f}, exact, with as many"
            f" trials as {each}s: pictures of one {each} are not independent)"
        )


class ModelSettings(Strict):
    """Everything that decides a score besides the weights."""

    label: str = Field(description="Title of the experiment.")
    fold: str = Field(description="The protocol's fold that the detector was trained on.")
    detector: str = Field(description="Name of the detector's class.")
    sees: Literal["crop", "picture", "box", "points"] = Field("crop", description="See `Detector.sees`.")
    face: FaceSettings
    cue: CueSettings | None = Field(description="How the second input is made; None: the detector takes no cue.")
    threshold: ThresholdSettings
    face_detector: LoadedPart | None = None
    face_parser: LoadedPart | None = None
    calibration: Calibration | None = Field(None, description="Of `agfas calibrate`.")

    @model_serializer(mode="wrap")
    def _as_before(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without a calibration, what programs read that know none."""
        content = serialize(self)
        return content if self.calibration is not None else {k: v for k, v in content.items() if k != "calibration"}

    @property
    def has_head(self) -> bool:
        """Whether a one-class head gives the scores."""
        return self.calibration is not None and self.calibration.method == "head"

    @property
    def basis(self) -> str:
        """Behind the threshold in a reason: whose faces it comes from."""
        if self.calibration is None:
            return ""
        who = "one person" if self.calibration.one_person else f"{self.calibration.groups} persons"
        return f", chosen on {self.calibration.faces:,} live faces of {who}"

    @property
    def needs_generator(self) -> bool:
        """Whether the folder holds a generator or baseline, which restores the faces."""
        return self.cue is not None and self.cue.needs_generator

    @property
    def is_control(self) -> bool:
        """Whether the cue carries nothing that a generator learnt from live faces."""
        return self.cue is not None and self.cue.source in CONTROLS

    @property
    def needs_mask(self) -> bool:
        """Whether the cue is set to zero outside the face."""
        return self.cue is not None and self.cue.mask == "face"


class SavedModel(Strict):
    """The whole settings file."""

    format: Literal["agfas face anti-spoofing"] = "agfas face anti-spoofing"
    version: Literal[2, 3] = VERSION
    settings: ModelSettings
    about: About
    files: FileHashes = Field(description="SHA-256 of every model file, by its path in the folder.")

    @classmethod
    def of(cls, settings: ModelSettings, about: About, files: dict[str, str]) -> SavedModel:
        """What is written: a calibrated model has a version of its own."""
        version = VERSION if settings.calibration is None else CALIBRATED_VERSION
        return cls(version=version, settings=settings, about=about, files=files)
