"""The shapes of answers, for the API's description; `tests` hold real answers against them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Shape(BaseModel):
    """Every key is named."""

    model_config = ConfigDict(extra="forbid")


class Fault(Shape):
    """What was wrong."""

    code: str = Field(description="One word for programs; each status has its own.", examples=["too_large"])
    message: str = Field(description="One sentence for people.")


class Problem(Shape):
    """The body of every answer that is none."""

    error: Fault


class Face(Shape):
    """One judged face."""

    verdict: Literal["live", "attack"]
    score: float = Field(ge=0, le=1, description="Higher is more live. It ranks faces; it is no probability.")
    box: list[float] | None = Field(
        description="Left, top, width, height in pixels of the upright picture; of a crop null."
    )
    landmarks: list[list[float]] | None = Field(description="Five points x, y: eyes, nose, corners of the mouth.")
    detection_score: float | None = Field(description="The face detector's confidence.")
    attack_classes: list[float] = Field(
        [], description="Probability of each kind of attack, of a detector that tells several apart; else left out."
    )
    raw_score: float | None = Field(
        None, description="The detector's own score, of a calibrated one whose head gave `score`; else left out."
    )


class Frame(Shape):
    """One judged frame of a video."""

    index: int = Field(ge=0, description="Its place in the video.")
    seconds: float | None = Field(description="Its time; null if the frame rate is unknown.")
    score: float | None = Field(description="Of its largest face; null without a face.")
    faces: list[Face]


class VerdictOf(Shape):
    """The answer for one picture or video."""

    source: str = Field(description="The client's name for the file; without one, `picture` or `video`.")
    verdict: Literal["live", "attack", "no face", "refused"] = Field(
        description="`refused` only among several files; a single one is answered with status 422."
    )
    reason: str = Field(description="Score against threshold, or why there is no score.")
    score: float | None = Field(description="Of the largest face; of a video the mean over its frames.")
    threshold: float = Field(description="Live is score >= threshold.")
    threshold_origin: str = Field(description="The scores that the threshold was chosen on.")
    faces: list[Face] = Field(description="The largest first; one, or all with `all_faces`.")
    frames: list[Frame] = Field(description="Of a video.")
    notes: list[str] = Field(description="Caveats.")
    label: str = Field(description="Of the model.")


class Failed(Shape):
    """A file among several that the server failed to judge."""

    source: str
    error: Fault


class Verdicts(Shape):
    """The answers to several files, in their order."""

    label: str = Field(description="Of the model.")
    results: list[VerdictOf | Failed]


class Health(Shape):
    """The server runs."""

    status: Literal["ok"]


class Ready(Shape):
    """Files can be judged."""

    status: Literal["ready"]
    workers: int = Field(ge=1, description="With a loaded model.")


class ThresholdOf(Shape):
    """When a face is live."""

    model_config = ConfigDict(extra="allow")

    value: float
    rule: str
    selection: str
    origin: str
    words: str
    by_class: bool


class PartOf(Shape):
    """One part of the model and its licence."""

    what: str
    source: str
    licence: str


class ModelOf(Shape):
    """What the model card says, and what the server takes."""

    label: str
    fold: str
    detector: str
    sees: str
    face_detector: str | None = Field(description="Null: every picture is judged as an aligned crop.")
    takes_aligned: bool = Field(description="Whether `aligned` is possible.")
    threshold: ThresholdOf
    trained_on: dict[str, Any]
    measured: dict[str, Any] | None = Field(description="Error rates; null: nothing was measured.")
    parts: list[PartOf]
    warnings: list[str] = Field(description="Reasons not to rely on a verdict.")
    limits: dict[str, float]
    version: str = Field(description="Of the program.")
