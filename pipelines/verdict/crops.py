"""From the pictures that a caller gives to the crops that the models see."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from PIL import Image, ImageOps

from oanet.published import BOX, CROP, PICTURE, POINTS
from pipelines.data.crop import DEFAULT_TEMPLATE, CropRecipe, check_holds_face, recipe_of, resized_mask, to_square
from pipelines.data.detection import DetectedFace, FaceDetector
from pipelines.data.enhance import Enhancement
from pipelines.data.formats import is_video
from pipelines.data.held import File, HeldFile
from pipelines.data.images import check_pixels, read_noted, to_rgb
from pipelines.data.parsing import Parser
from pipelines.errors import AgfasError, in_short
from pipelines.verdict.settings import FaceSettings, LoadedPart

if TYPE_CHECKING:
    from oanet.detectors.base import Detector

Picture: TypeAlias = "str | File | Image.Image | np.ndarray"


@dataclass(frozen=True)
class GivenPicture:
    """One picture, not read yet.

    Attributes:
        source: the path or name, or `picture N` for pixels.
        value: path, file in memory, image or array.
    """

    source: str
    value: File | Image.Image | np.ndarray

    def read(self) -> tuple[np.ndarray, str]:
        """The picture upright, (H, W, 3) uint8 RGB, and what else its file holds; see `PictureFile.note`.

        Raises:
            AgfasError: the file cannot be read, is a video, or the array has another shape or type.
        """
        if isinstance(self.value, np.ndarray):
            try:
                check_pixels(self.value)
            except ValueError as error:
                raise AgfasError(f"{self.source}: {error} The channels are RGB.") from None
            return np.ascontiguousarray(self.value), ""
        if isinstance(self.value, Image.Image):
            return np.asarray(to_rgb(ImageOps.exif_transpose(self.value))), ""
        if isinstance(self.value, Path) and is_video(self.value):
            raise AgfasError(f"{self.value} is a video by its name. Judge it with FaceAntiSpoofing.judge_video.")
        found = read_noted(self.value)
        return np.asarray(found.image), found.note


def as_given(pictures: Picture | Iterable[Picture]) -> list[GivenPicture]:
    """One picture or many, each with a name.

    Raises:
        AgfasError: a value is neither a path, an image nor an array.
    """
    if isinstance(pictures, (str, Path, HeldFile, Image.Image)) or (
        isinstance(pictures, np.ndarray) and pictures.ndim < 4
    ):
        return [_named(pictures, 0)]
    if not isinstance(pictures, Iterable):
        raise _no_picture(0, pictures)
    return [_named(value, place) for place, value in enumerate(pictures)]


def _named(value: Picture, place: int) -> GivenPicture:
    if isinstance(value, (str, Path)):
        return GivenPicture(str(value), Path(value))
    if isinstance(value, HeldFile):
        return GivenPicture(value.name, value)
    if isinstance(value, (Image.Image, np.ndarray)):
        return GivenPicture(f"picture {place}", value)
    raise _no_picture(place, value)


def _no_picture(place: int, value: object) -> AgfasError:
    return AgfasError(
        f"Picture {place} is of the type {type(value).__name__}. Give paths, PIL images, or arrays (H, W, 3) uint8."
    )


GivenDetector: TypeAlias = "str | FaceDetector | None"
GivenParser: TypeAlias = "str | Path | Parser | None"


@dataclass(frozen=True)
class Loaded:
    """Face detector and face parser, and the weight files to copy into a saved folder.

    Attributes:
        detector: finds faces; None: every picture is an aligned crop.
        detector_weights: None if the caller passed an object, or the detector found its weights itself.
        parser: makes masks; None: no masks.
        parser_weights: None if the caller passed an object.
    """

    detector: FaceDetector | None = None
    detector_weights: Path | None = None
    parser: Parser | None = None
    parser_weights: Path | None = None

    @property
    def detector_part(self) -> LoadedPart | None:
        """The face detector as the settings record it."""
        return None if self.detector is None else _part(self.detector.name, self.detector)

    @property
    def parser_part(self) -> LoadedPart | None:
        """The face parser as the settings record it."""
        return None if self.parser is None else _part("bisenet", self.parser)


def _part(name: str, part: FaceDetector | Parser) -> LoadedPart:
    # The round trip makes tuples lists, as they will be when the settings are read again.
    recorded = json.loads(json.dumps(part.fingerprint()))
    return LoadedPart(name=name, fingerprint=recorded, licence=str(getattr(part, "licence", "its publisher's")))


def load_parts(detector: GivenDetector, weights: str | Path | None, parser: GivenParser) -> Loaded:
    """Load the parts that are named; objects are used as they are.

    Args:
        detector: a name of `pipelines.data.detection.DETECTORS`, or a detector.
        weights: file or folder for a detector given by name.
        parser: the weights of a `FaceParser`, or a parser.

    Raises:
        AgfasError: weights without a name, an unknown name, or weights that cannot be loaded.
    """
    place = None if weights is None else Path(weights)
    found = _open_detector(detector, place)
    if isinstance(parser, (str, Path)):
        from pipelines.data.parsing import FaceParser

        return Loaded(found, place, FaceParser(Path(parser)), Path(parser))
    return Loaded(found, place, parser)


def _open_detector(given: GivenDetector, weights: Path | None) -> FaceDetector | None:
    if isinstance(given, str):
        from pipelines.data.detection import load_detector

        return load_detector(given, weights)
    if weights is not None:
        raise AgfasError(f"{weights} are weights of a face detector without its name. Give it with --face-detector.")
    return given


@dataclass(frozen=True)
class Crop:
    """One face as the models see it.

    Attributes:
        pixels: (size, size, 3) uint8; of a network that makes its own input, that input (H, W, C), see `Detector.look`.
        face: the detection; None if the picture was a crop already, or is seen whole and was not searched.
        mask: (size, size) uint8, 1 face, 0 background; None without a parser.
    """

    pixels: np.ndarray
    face: DetectedFace | None = None
    mask: np.ndarray | None = None


@dataclass(frozen=True)
class Cropper:
    """Makes what a network sees: crops like those of the training data, or the network's own.

    Attributes:
        settings: template, sizes, enhancement.
        detector: finds faces; None: every picture is a crop, or is seen whole.
        parser: makes masks; None: no masks.
        network: makes its own input if it sees more than the crop; None: it sees the crop.

    Raises:
        AgfasError: the network needs a face's place, and there is no face detector.
    """

    settings: FaceSettings
    detector: FaceDetector | None = None
    parser: Parser | None = None
    network: Detector | None = None

    def __post_init__(self) -> None:
        if self.network is not None and self.network.sees in (BOX, POINTS) and self.detector is None:
            raise AgfasError(
                f"'{self.network.name}' cuts its own input out of whole pictures, around the face that a face detector"
                " finds, so it cannot judge aligned crops: name a face detector, for example --face-detector yunet, and"
                " leave --aligned out."
            )

    @property
    def sees_whole(self) -> bool:
        """Whether the network sees the whole picture, so that all faces in it have one score."""
        return self.network is not None and self.network.sees == PICTURE

    def __call__(self, photo: np.ndarray, all_faces: bool = False, most: int | None = None) -> tuple[list[Crop], int]:
        """The largest face of an upright picture (H, W, 3) uint8, or all faces, or the `most` largest of them.

        A smaller face that cannot be cut, such as a tiny one behind, is left out: it must not keep the largest from a
        verdict.

        Returns:
            The crops, and the number of faces found.

        Raises:
            AgfasError: the picture is not square and there is no detector, or the largest face cannot be cut.
        """
        if self.detector is None:
            return [self._alone(photo)], 1
        found = self.recipe.choose(self.detector(photo))
        chosen = found[:most] if all_faces and not self.sees_whole else found[:1]
        crops = []
        for face in chosen:
            try:
                crops.append(self._crop(photo, face))
            except AgfasError:
                if face is found[0]:
                    raise
        return crops, len(found)

    @property
    def recipe(self) -> CropRecipe:
        """The recipe at the size at which the training's crops were cut."""
        face = self.settings
        return CropRecipe(face.crop_size, face.template, face.min_score, Enhancement.of(face.enhancement))

    def _alone(self, photo: np.ndarray) -> Crop:
        """A picture that is a crop already, or that is seen whole."""
        if self.network is not None and self.sees_whole:
            check_holds_face(photo)
            return Crop(self.network.look(photo))
        return self._finish(self.recipe.take(photo)[0])

    def _crop(self, photo: np.ndarray, face: DetectedFace) -> Crop:
        if self.network is None or self.network.sees == CROP:
            return self._finish(self.recipe.align(photo, face).picture, face)
        try:
            return Crop(self.network.look(photo, face.box, face.landmarks), face)
        except ValueError as error:
            raise AgfasError(str(error)) from error

    def _finish(self, crop: np.ndarray, face: DetectedFace | None = None) -> Crop:
        """Parse, enhance, and resize from the size of the dataset to that of the models."""
        pixels, mask = self.recipe.finish(crop, self.parser)
        size = self.settings.size
        return Crop(to_square(pixels, size), face, None if mask is None else resized_mask(mask, size))


@dataclass(frozen=True)
class Look:
    """A picture and its crops, or why there are none.

    Attributes:
        source: as in `GivenPicture`.
        photo: the upright picture; None if it cannot be read.
        crops: of the faces to judge.
        found: number of faces found.
        refused: why it cannot be judged; empty if it can.
        note: as of `GivenPicture.read`.
    """

    source: str
    photo: np.ndarray | None = None
    crops: Sequence[Crop] = ()
    found: int = 0
    refused: str = ""
    note: str = ""


def look_at(item: GivenPicture, cropper: Cropper, all_faces: bool, most: int | None = None) -> Look:
    """Read a picture and cut its faces; whatever goes wrong becomes the reason of a refusal."""
    try:
        photo, note = item.read()
        crops, found = cropper(photo, all_faces, most)
    except AgfasError as error:
        return Look(item.source, refused=str(error))
    except Exception as error:  # decoders and OpenCV can raise anything on a stranger's bytes
        return Look(item.source, refused=f"it could not be processed ({type(error).__name__}: {in_short(error)})")
    return Look(item.source, photo, crops, found, note=note)


def face_settings(card: dict[str, Any], size: int) -> FaceSettings:
    """Settings that crop a face as a dataset's crops were made.

    Args:
        card: `face_dataset.json` of the training data.
        size: side of the crops that the models see.
    """
    recipe = recipe_of(card)
    detected = not recipe.get("aligned")
    template = recipe.get("template") if detected else None
    enhancement = Enhancement.of(recipe.get("enhance"))
    return FaceSettings(
        size=size,
        crop_size=int(recipe.get("size", size)),
        template=template or DEFAULT_TEMPLATE,
        template_known=template is not None,
        detector=recipe.get("face_detector") if detected else None,
        min_score=float(recipe.get("min_score", 0.0)),
        # All arguments, so that new defaults in a later version change nothing.
        enhancement=None if enhancement is None else enhancement.fingerprint(),
    )
