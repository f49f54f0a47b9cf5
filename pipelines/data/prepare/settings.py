"""The recipe of a face dataset: everything that decides what comes out of which pictures."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from pipelines.errors import AgfasError, nearest
from pipelines.settings import Strict, Unit, explain

# How the work is done, not what comes out. Of weights the models say themselves which they are.
_NOT_OF_THE_RESULT = {"workers", "max_refused", "allow_missing", "weights", "parsing_weights"}


class SplitSettings(Strict):
    """How subjects are dealt out to train, dev and test."""

    official: bool = Field(True, description="Keep the splits that a dataset's own lists give; False deals all anew.")
    train: Unit = Field(0.6, description="Unit of the videos for training.")
    dev: Unit = Field(0.2, description="Unit held out to choose with; test takes the rest.")
    dev_from_train: Unit = Field(
        0.0, description="Unit of the official `train` videos moved to `dev` where a dataset has no official dev set."
    )
    seed: int = Field(0, ge=0, description="Another seed deals equal subjects out in another order.")
    join_near_duplicates: bool = Field(
        True,
        description="Deal near-duplicate pictures out together where no person is known. Persons are never joined.",
    )
    largest_group: Unit = Field(
        0.5, description="Greatest share of a domain's videos of a label that may be joined so; more is left apart."
    )

    @model_validator(mode="after")
    def _within_one(self) -> SplitSettings:
        if self.train + self.dev > 1:
            raise ValueError(f"train and dev together are {self.train + self.dev:g}, more than 1")
        return self

    def dealing(self) -> dict[str, Any]:
        """What `assign_splits` takes of them."""
        return self.model_dump(exclude={"join_near_duplicates", "largest_group"})


class Recipe(Strict):
    """Source, faces, filters and splits of one `agfas prepare`."""

    importer: str = Field("folder", description="The layout of SOURCE.")
    options: dict[str, Any] = Field(default_factory=dict, description="Options of the importer (csv and hf have some).")
    domain: str | None = Field(None, min_length=1, description="Name of the domain; that of SOURCE where not given.")
    frames: int = Field(10, ge=1, description="Frames of each video, uniform in time.")
    frame_rule: Literal["uniform", "released_train", "released_test"] = Field(
        "uniform", description="The released rules take the public code's 1 and 2 frames, whatever `frames` says."
    )
    size: int = Field(256, ge=16, le=2048, description="Side of the crops in pixels.")
    template: str = Field("agfas", description="Where the five landmarks come to lie.")
    detector: str = Field("yunet", description="Who finds the faces.")
    weights: Path | None = Field(None, description="The detector's weights.")
    detector_options: dict[str, Any] = Field(default_factory=dict, description="Its thresholds and sizes.")
    aligned: bool = Field(False, description="The pictures are crops already: their central square is taken as it is.")
    all_faces: bool = Field(False, description="Keep every face of a picture; otherwise the largest.")
    min_score: Unit = Field(0.0, description="Faces of a lower detector score are taken for none.")
    max_yaw: float | None = Field(None, gt=0, le=90, description="Degrees; faces turned further are refused.")
    max_pitch: float | None = Field(None, gt=0, le=90, description="Degrees; faces tilted further are refused.")
    min_quality: Unit | None = Field(None, description="Faces of a lower quality score are refused.")
    enhance: bool | dict[str, Any] = Field(
        False, description="Apply the enhancement chain, with its defaults or with these of its parameters."
    )
    parsing_weights: Path | None = Field(None, description="Face parser's weights; where given, masks are written.")
    splits: SplitSettings = SplitSettings()
    ratio: float | None = Field(
        None, ge=1, description="The larger class has at most so many times the faces of the smaller one in a split."
    )
    max_refused: Unit = Field(
        0.01, description="Exit code 1 where a larger share could not be used; what limits keep out does not count."
    )
    allow_missing: bool = Field(False, description="Go on where a dataset is not complete.")
    workers: int | None = Field(None, ge=1, description="Processes; the cores where not given. No byte depends on it.")

    @model_validator(mode="after")
    def _possible(self) -> Recipe:
        needs_landmarks = [name for name in ("max_yaw", "max_pitch", "all_faces", "min_score") if getattr(self, name)]
        if self.aligned and needs_landmarks:
            raise ValueError(
                f"{' and '.join(needs_landmarks)} needs a detector, and with aligned nothing is detected. Leave one out"
            )
        return self

    def of_the_result(self) -> dict[str, Any]:
        """The part that decides what comes out, in JSON's types."""
        return self.model_dump(mode="json", exclude=_NOT_OF_THE_RESULT)


def build_recipe(content: dict[str, Any], where: str) -> Recipe:
    """A recipe from a plain mapping; names are checked against what there is.

    Args:
        content: keys of `Recipe`.
        where: named in the refusal.

    Raises:
        AgfasError: an unknown key or name (with the nearest one), or a value that is not allowed.
    """
    try:
        recipe = Recipe.model_validate(content)
    except ValidationError as error:
        raise AgfasError(explain(error, Recipe, where)) from None
    _check_names(recipe, where)
    return recipe


def check_options(recipe: Recipe, find: Any) -> None:
    """Refuse an option that the importer does not take.

    Raises:
        AgfasError: names the options that it takes.
    """
    allowed = [name for name in inspect.signature(find).parameters if name not in ("source", "domain")]
    for name in recipe.options:
        if name not in allowed:
            what = f"The importer '{recipe.importer}' has no option '{name}'"
            raise AgfasError(f"{what}: {nearest(name, allowed)}" if allowed else f"{what}, nor any other.")


def _check_names(recipe: Recipe, where: str) -> None:
    from pipelines.data.alignment import TEMPLATES
    from pipelines.data.detection import DETECTORS
    from pipelines.data.importers import IMPORTERS

    known: dict[str, Iterable[str]] = {"importer": IMPORTERS, "detector": DETECTORS, "template": TEMPLATES}
    for field, names in known.items():
        name = getattr(recipe, field)
        if name not in set(names):
            raise AgfasError(f"In {where}: there is no {field} '{name}'; {nearest(name, names)}")
    try:
        enhancement_of(recipe)
    except AgfasError as error:
        raise AgfasError(f"In {where}: {error}") from None


def enhancement_of(recipe: Recipe) -> Any:
    """The settings of the enhancement chain, or None where it is off.

    Raises:
        AgfasError: a parameter that the chain does not have, or a value that it does not take.
    """
    if recipe.enhance is False:
        return None
    from pipelines.data.enhance import Enhancement

    given: dict[str, Any] = recipe.enhance if isinstance(recipe.enhance, dict) else {}
    for name in given:
        if name not in (allowed := inspect.signature(Enhancement).parameters):
            raise AgfasError(f"the enhancement has no '{name}'; {nearest(name, allowed)}")
    try:
        return Enhancement(**given)
    except (TypeError, ValueError) as error:
        raise AgfasError(f"the enhancement cannot be set so: {error}.") from None
