"""What a caller may give as pictures: paths, Pillow's images, arrays, one or many."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image, ImageOps

from pipelines.data.images import read_picture, to_rgb
from pipelines.data.importers.source import VIDEO_SUFFIXES
from pipelines.errors import AgfasError

Picture: TypeAlias = "str | Path | Image.Image | np.ndarray"


@dataclass(frozen=True)
class Given:
    """One picture, not read yet.

    Attributes:
        source: path or number, for the answer.
        value: what was given.
    """

    source: str
    value: Any

    def pixels(self) -> np.ndarray:
        """The picture upright, (H, W, 3) uint8.

        Raises:
            AgfasError: it cannot be read, or is no picture.
        """
        if isinstance(self.value, np.ndarray):
            return _checked(self.value, self.source)
        if isinstance(self.value, Image.Image):
            return np.asarray(to_rgb(ImageOps.exif_transpose(self.value)))
        if self.value.suffix.lower() in VIDEO_SUFFIXES:
            raise AgfasError(f"{self.value} is a video by its name. Judge it with FaceAntiSpoofing.judge_video.")
        return np.asarray(read_picture(self.value))


def as_given(pictures: Picture | Iterable[Picture]) -> list[Given]:
    """One picture or many, each with a name.

    Raises:
        AgfasError: something that is neither path, picture nor array.
    """
    single = isinstance(pictures, (str, Path, Image.Image)) or (isinstance(pictures, np.ndarray) and pictures.ndim < 4)
    if not single and not isinstance(pictures, Iterable):
        raise _no_picture(0, pictures)
    values = [pictures] if single else list(pictures)  # type: ignore[arg-type]
    return [_named(value, place) for place, value in enumerate(values)]


def _named(value: Any, place: int) -> Given:
    if isinstance(value, (str, Path)):
        return Given(str(value), Path(value))
    if isinstance(value, (Image.Image, np.ndarray)):
        return Given(f"picture {place}", value)
    raise _no_picture(place, value)


def _no_picture(place: int, value: Any) -> AgfasError:
    return AgfasError(
        f"Picture {place} is of the type {type(value).__name__}. Give paths, PIL images, or arrays (H, W, 3) uint8."
    )


def _checked(picture: np.ndarray, source: str) -> np.ndarray:
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or 0 in picture.shape:
        raise AgfasError(
            f"{source} is an array {picture.shape} of {picture.dtype}; a picture is (H, W, 3) uint8, RGB, not empty."
        )
    return np.ascontiguousarray(picture)
