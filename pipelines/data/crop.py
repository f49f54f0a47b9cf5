"""The crop recipe: one way from a picture to the square face crop that generator and detector see.

`agfas prepare` cuts the training faces by a recipe and stores it with the dataset; `agfas detect`, the demo and saved
models cut new pictures by the same recipe. A detected face is aligned by its landmarks to a template. A picture that
is said to be a crop already must be square within `SQUARE_TOLERANCE` and is resized.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from pipelines.data.alignment import Aligned, align
from pipelines.data.enhance import Enhancement, enhance
from pipelines.errors import AgfasError

if TYPE_CHECKING:
    from pipelines.data.detection import DetectedFace
    from pipelines.data.parsing import Parser

DEFAULT_TEMPLATE = "agfas"
# Shortest side in pixels of a picture that no face detector searches: below, no face is more than a stain.
SMALLEST_CROP = 16
# Share of the longer side that the central square may cut off: a pixel or two, which no model notices. What is
# further from square is a photograph, whose central square would cut through the face.
SQUARE_TOLERANCE = 0.02


@dataclass(frozen=True)
class CropRecipe:
    """How faces are chosen and cut.

    Attributes:
        size: side of the crops in pixels.
        template: name in `pipelines.data.alignment.TEMPLATES`.
        min_score: detected faces with a lower score are ignored.
        enhancement: settings of the enhancement chain; None: off.
    """

    size: int
    template: str = DEFAULT_TEMPLATE
    min_score: float = 0.0
    enhancement: Enhancement | None = None

    def choose(self, faces: list[DetectedFace]) -> list[DetectedFace]:
        """The faces with a score of at least `min_score`, the largest first."""
        return sorted((face for face in faces if face.score >= self.min_score), key=lambda face: -face.area)

    def align(self, picture: np.ndarray, face: DetectedFace) -> Aligned:
        """A detected face of a picture (H, W, 3) uint8 as a crop, not enhanced yet.

        Raises:
            AgfasError: the landmarks do not form a face, or the crop is outside the picture.
        """
        return align(picture, face.landmarks, self.template, self.size)

    def take(self, picture: np.ndarray) -> tuple[np.ndarray, tuple[int, int, int]]:
        """A picture that is an aligned crop already.

        Returns:
            The crop (size, size, 3) uint8, not enhanced yet, and left, top and side of the square that was taken.

        Raises:
            AgfasError: the picture is too small, or not square.
        """
        left, top, side = central_square(picture)
        return to_square(picture[top : top + side, left : left + side], self.size), (left, top, side)

    def finish(self, crop: np.ndarray, parser: Parser | None) -> tuple[np.ndarray, np.ndarray | None]:
        """Parse and enhance a crop.

        Returns:
            The crop, and its face mask (size, size) uint8 of 0 and 1; None without a parser.
        """
        # Parsers are trained on unprocessed pictures, so the mask comes before the enhancement.
        mask = None if parser is None else parser(crop[None])[0]
        return (crop if self.enhancement is None else enhance(crop, self.enhancement)), mask


def recipe_of(card: dict[str, Any]) -> dict[str, Any]:
    """The recipe by which `agfas prepare` made a dataset; empty for datasets from elsewhere."""
    recipe = card.get("recipe")
    return recipe if isinstance(recipe, dict) else {}


def central_square(picture: np.ndarray) -> tuple[int, int, int]:
    """Left, top and side of the central square of an aligned crop (H, W, 3).

    Raises:
        AgfasError: the picture is smaller than `SMALLEST_CROP`, or further from square than `SQUARE_TOLERANCE`.
    """
    check_holds_face(picture)
    height, width = picture.shape[:2]
    side, longer = min(height, width), max(height, width)
    if longer - side > SQUARE_TOLERANCE * longer:
        raise AgfasError(
            f"The picture has {width} x {height} pixels, so it is not an aligned face crop: those are square (within"
            f" {SQUARE_TOLERANCE:.0%}). Let a face detector find the face, without --aligned: for example"
            " --face-detector yunet --weights yunet.onnx."
        )
    return (width - side) // 2, (height - side) // 2, side


def check_holds_face(picture: np.ndarray) -> None:
    """Refuse a picture (H, W, 3) that is judged without a face detector and smaller than `SMALLEST_CROP`."""
    height, width = picture.shape[:2]
    if min(height, width) < SMALLEST_CROP:
        raise AgfasError(
            f"The picture has {width} x {height} pixels, too few to hold a face: at least {SMALLEST_CROP} on each side"
            " are needed. Give a larger one."
        )


def to_square(crop: np.ndarray | Image.Image, size: int) -> np.ndarray:
    """An RGB crop as (size, size, 3) uint8; other sizes are resampled with Lanczos."""
    image = (Image.fromarray(crop) if isinstance(crop, np.ndarray) else crop).convert("RGB")
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(image)


def resized_mask(mask: np.ndarray, size: int) -> np.ndarray:
    """A mask (S, S) uint8 of 0 and 1 as (size, size): 1 where at least half of the pixel is face."""
    shares = Image.fromarray(mask * np.uint8(255)).resize((size, size), Image.Resampling.BOX)
    return (np.asarray(shares) >= 128).astype(np.uint8)
