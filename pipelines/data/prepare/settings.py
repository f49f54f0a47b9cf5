"""The recipe of `agfas prepare`: every setting that decides which faces a dataset holds and how they are cut."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from pipelines.data.alignment import TEMPLATES
from pipelines.data.crop import DEFAULT_TEMPLATE, CropRecipe
from pipelines.data.detection import DETECTORS
from pipelines.data.enhance import Enhancement
from pipelines.data.importers import importer_module
from pipelines.errors import AgfasError, nearest
from pipelines.settings import Strict, Unit, blamed, explain

# They do not change the dataset. Weights enter its identity by the models' fingerprints, not by their path.
# What `alike` and `na_subjects` decide enters by the names of the sources.
_NOT_OF_THE_RESULT = {
    *("workers", "max_refused", "allow_missing", "allow_leaks", "weights", "parsing_weights", "alike", "na_subjects"),
}


class SplitSettings(Strict):
    """How subjects are assigned to train, dev and test."""

    official: bool = Field(True, description="Keep the dataset's official splits; False assigns all subjects anew.")
    train: Unit = Field(0.6, description="Share of the videos for training.")
    dev: Unit = Field(0.2, description="Share of the videos for development; the rest is for testing.")
    dev_from_train: Unit = Field(
        0.0, description="Share of the official training videos moved to `dev` if the dataset has no official dev set."
    )
    seed: int = Field(0, ge=0, description="Seed of the order in which subjects are assigned.")
    join_near_duplicates: bool = Field(
        True,
        description="Keep near-duplicate pictures in one split where the subjects are unknown. Known subjects are never"
        " joined.",
    )
    largest_group: Unit = Field(
        0.5, description="Largest share of a domain's videos of one label to join; larger groups are not joined."
    )

    @model_validator(mode="after")
    def _within_one(self) -> SplitSettings:
        if self.train + self.dev > 1:
            raise ValueError(f"train and dev together are {self.train + self.dev:g}, more than 1")
        return self

    def assignment(self) -> dict[str, Any]:
        """The arguments of `assign_splits`."""
        return self.model_dump(exclude={"join_near_duplicates", "largest_group"})


class PrepareRecipe(Strict):
    """Source, faces, filters and splits of one `agfas prepare`."""

    importer: str = Field("folder", description="Layout of SOURCE.")
    options: dict[str, Any] = Field(
        default_factory=dict, description="Options of the importer (folder, csv and hf have some)."
    )
    domain: str | None = Field(None, min_length=1, description="Name of the domain. Default: the name of SOURCE.")
    limit: int | None = Field(None, ge=1, description="Most pictures and videos, evenly spaced. Default: all.")
    frames: int = Field(10, ge=1, description="Frames of each video, uniform in time.")
    frame_rule: Literal["uniform", "released", "both"] = Field(
        "uniform",
        description="released: the frames of the public code's lists over the whole video, one for training and two"
        " for tests; both: beside the uniform ones. An experiment chooses with `protocol.frames`.",
    )
    size: int = Field(256, ge=16, le=2048, description="Side of the crops in pixels.")
    template: str = Field(DEFAULT_TEMPLATE, description="Positions of the five landmarks in the crop.")
    face_detector: str = Field("yunet", description="Face detector.")
    weights: Path | None = Field(None, description="Weights of the face detector.")
    detector_options: dict[str, Any] = Field(default_factory=dict, description="Its thresholds and sizes.")
    aligned: bool = Field(False, description="The pictures are square, aligned crops; no face is detected.")
    keep_picture: bool = Field(
        False, description="Keep the whole picture of each face, for networks with a crop of their own."
    )
    all_faces: bool = Field(False, description="Keep every face of a picture. Default: the largest.")
    min_score: Unit = Field(0.0, description="Faces with a lower detection score are ignored.")
    max_yaw: float | None = Field(None, gt=0, le=90, description="Refuse faces turned further, in degrees.")
    max_pitch: float | None = Field(None, gt=0, le=90, description="Refuse faces tilted further, in degrees.")
    quality: Literal["paper", "released"] | None = Field(
        None,
        description="Measure and limit quality by the text or the code of Kuznetsov et al. Default: measure as paper.",
    )
    min_quality: Unit | None = Field(None, description="Refuse faces with a lower quality score.")
    enhance: bool | str | dict[str, Any] = Field(
        False,
        description="Enhance the crops by the text (paper, true) or the code (released) of Kuznetsov et al., or with"
        " other settings.",
    )
    parsing_weights: Path | None = Field(None, description="Weights of the face parser, which adds face masks.")
    alike: Literal["one", "several"] | None = Field(
        None,
        description="Names of persons, domains and attack types that differ only in case, width, blanks or zeros (Ann,"
        " ann): one or several. Default: ask.",
    )
    na_subjects: Literal["person", "unknown"] | None = Field(
        None,
        description="Subjects called nan, None, NA, unknown, -1, ...: a person of this name, or persons not known."
        " Default: ask.",
    )
    splits: SplitSettings = SplitSettings()
    ratio: float | None = Field(
        None, ge=1, description="Most faces of the larger class per face of the smaller one, in each split."
    )
    max_refused: Unit = Field(
        0.01, description="Exit with code 1 if a larger share is unusable. Faces beyond limits do not count."
    )
    allow_missing: bool = Field(False, description="Accept an incomplete copy of a dataset.")
    allow_leaks: bool = Field(False, description="Accept splits that share a person, a video or a near-duplicate.")
    workers: int | None = Field(None, ge=1, description="Processes. Default: the cores, at most 8.")

    @field_validator("options")
    @classmethod
    def _whole_numbers(cls, options: dict[str, Any]) -> dict[str, Any]:
        """1.0 is 1, so that both name one dataset."""
        whole = {name: int(value) for name, value in options.items() if isinstance(value, float) and value.is_integer()}
        return options | whole

    @model_validator(mode="after")
    def _possible(self) -> PrepareRecipe:
        needs_landmarks = [name for name in ("max_yaw", "max_pitch", "all_faces", "min_score") if getattr(self, name)]
        if self.aligned and needs_landmarks:
            raise ValueError(
                f"{' and '.join(needs_landmarks)} needs a face detector, and with aligned nothing is detected. Leave"
                " one out"
            )
        return self

    def of_the_result(self) -> dict[str, Any]:
        """The settings that decide the dataset, in JSON's types."""
        return self.model_dump(mode="json", exclude=_NOT_OF_THE_RESULT)

    def crop(self) -> CropRecipe:
        """How faces are cut.

        Raises:
            AgfasError: a setting that the enhancement does not have, or a value that is not allowed.
        """
        return CropRecipe(self.size, self.template, self.min_score, Enhancement.of(self.enhance))


def build_recipe(content: dict[str, Any], where: str, overrides: Mapping[str, str] | None = None) -> PrepareRecipe:
    """A recipe from a plain mapping, with all its names checked.

    Args:
        content: keys of `PrepareRecipe`.
        where: where the content comes from, for error messages.
        overrides: what the command line changed in it, by key.

    Raises:
        AgfasError: an unknown key or name (with the nearest one), or a value that is not allowed.
    """
    try:
        recipe = PrepareRecipe.model_validate(content)
    except ValidationError as error:
        raise AgfasError(explain(error, PrepareRecipe, where, overrides)) from None
    known: dict[str, Iterable[str]] = {"face_detector": DETECTORS, "template": TEMPLATES}
    for field, names in known.items():
        if (name := getattr(recipe, field)) not in set(names):
            place = blamed(field, where, overrides or {})
            raise AgfasError(f"In {place}: there is no {field} '{name}'; {nearest(name, names)}")
    try:
        importer_module(recipe.importer)
        recipe.crop()
    except AgfasError as error:
        raise AgfasError(f"In {where}: {error}") from None
    return recipe


def check_options(recipe: PrepareRecipe, find: Callable[..., Any]) -> None:
    """Check the importer's options against the parameters of its `find`.

    Raises:
        AgfasError: an option that the importer does not have.
    """
    allowed = [name for name in inspect.signature(find).parameters if name not in ("source", "domain")]
    for name in recipe.options:
        if name not in allowed:
            what = f"The importer '{recipe.importer}' has no option '{name}'"
            raise AgfasError(f"{what}: {nearest(name, allowed)}" if allowed else f"{what}, nor any other.")
