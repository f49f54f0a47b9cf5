"""Reading untrusted picture files: everything is checked before it is used, and every refusal gives a reason."""

from __future__ import annotations

import io
import math
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import AvifImagePlugin, ExifTags, Image, ImageOps, UnidentifiedImageError, features

from pipelines.data.decoding import check_directory, count_scans, is_raw, scans_of_strips
from pipelines.data.formats import HEAD, VIDEO, Kind, kind_of
from pipelines.data.held import File, HeldFile
from pipelines.errors import AgfasError

# Width times height; each pixel takes three bytes of memory.
MAX_PIXELS = 89_000_000
_MAX_SIDE = 65_535
_ALLOWED = "Allowed are JPEG, PNG, WebP, HEIC, AVIF, TIFF, GIF, BMP, PGM and PPM."
# A JPEG may send its picture in any number of passes, each of which costs the time of a whole picture.
_MAX_SCANS = 100
_MAX_WORK = 24  # scans times pixels, in pictures of the most pixels
# Kept as they are beside a face: every installation reads them.
_PLAIN = ("JPEG", "PNG", "WEBP", "BMP", "PPM")
_ANIMATED = ("GIF", "PNG", "WEBP", "AVIF")
_WIDE_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N")
# Pixels that are converted at once, so that no conversion needs a second picture.
_STRIP = 1 << 20
_BITS, _PHOTOMETRIC, _TILE_WIDTH, _TILE_LENGTH, _SAMPLES = 258, 262, 322, 323, 339
_EIGHT = "Save it with 8 or 16 bits a channel, as PNG."
# EXIF orientations that are not upright.
_TURNS = range(2, 9)
_NO_HEIF = (
    "Install the library that reads it with `pip install \"agfas[heif]\"`, or export it as JPEG, for example with"
    " `magick mogrify -format jpg *.heic`."
)  # fmt: skip


class NotRead(AgfasError):
    """A sound file of a kind that is not read here.

    Attributes:
        kind: what it is, with its article.
    """

    def __init__(self, path: File, kind: str, advice: str, what: str = "which is not read") -> None:
        super().__init__(f"{path} is {kind}, {what}. {advice}")
        self.kind = kind


@dataclass(frozen=True)
class PictureFile:
    """A picture that was read.

    Attributes:
        image: RGB, upright.
        turned: whether it was rotated or mirrored by its EXIF orientation.
        note: what it holds besides, such as further pages; empty if nothing.
        plain: whether its file can be kept as it is: upright, and of a format that needs no further library.
    """

    image: Image.Image
    turned: bool
    note: str
    plain: bool


def read_picture(path: File, *, max_pixels: int | None = None, side: int | None = None) -> Image.Image:
    """Read a picture file as RGB, rotated by its EXIF orientation; see `read_noted`."""
    return read_noted(path, max_pixels=max_pixels, side=side).image


def read_noted(path: File, *, max_pixels: int | None = None, side: int | None = None) -> PictureFile:
    """Read a picture file, and what is to be said of it.

    The content decides the format, not the name. The size in the header is checked before any pixel is decoded.
    Transparent parts become black, 16 bits are scaled to 8. Memory: about 12 bytes a pixel, and the file.

    Args:
        path: of the file.
        max_pixels: most pixels; it also bounds the time of a JPEG in many scans. Default: see `most_pixels`.
        side: what the caller needs on the longer side: a larger picture comes at 1/2, 1/4 or 1/8, never below it. A
            JPEG is decoded at that size.

    Raises:
        NotRead: another kind of picture, or a video.
        AgfasError: no file, an empty file, no picture, too many pixels, or a truncated picture.
    """
    check_file(path, "picture")
    most = most_pixels(path) if max_pixels is None else max_pixels
    head = _head(path)
    kind = _readable(path, head)
    if kind.plugin == "PNG" and len(head) >= 24:  # Pillow reads a PNG up to its first pixels before it gives the size
        check_size(path, struct.unpack(">II", head[16:24]), most=most)
    with warnings.catch_warnings():
        # Pillow warns about huge pictures, which are refused here, and about broken EXIF blocks, which are harmless.
        warnings.simplefilter("ignore")
        try:
            if kind.plugin == "TIFF":
                check_directory(path)
            given = path.open() if isinstance(path, HeldFile) else path
            with Image.open(given, formats=(kind.plugin,)) as image:
                check_size(path, image.size, most=most)
                return _loaded(path, image, kind, most, side)
        except Image.DecompressionBombError:
            raise _too_large(path, "far too many", most) from None
        except UnidentifiedImageError:
            raise _damaged(path, kind, "its header is truncated, or of a rare kind") from None
        except AgfasError:
            raise
        except Exception as error:  # decoders raise OSError, ValueError, struct.error, ... on foreign bytes
            raise _damaged(path, kind, f"it cannot be decoded ({' '.join(str(error).split())[:200]})") from error


def decode_picture(content: bytes) -> np.ndarray:
    """The bytes of a file that `read_noted` called plain, as (H, W, 3) uint8 RGB, upright."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # broken EXIF blocks
        with Image.open(io.BytesIO(content), formats=_PLAIN) as image:
            return np.asarray(to_rgb(ImageOps.exif_transpose(image)))


def _readable(path: File, head: bytes) -> Kind:
    """The kind of a picture that is read, by its first bytes."""
    kind = kind_of(head)
    if kind is None:
        raise AgfasError(f"{path} is not a picture. {_ALLOWED}")
    if kind.medium == VIDEO:
        raise NotRead(path, kind.name, f"Give it a name that ends in {kind.suffixes[0]}.", "not a picture")
    if kind.advice:
        raise NotRead(path, kind.name, kind.advice)
    if kind.plugin == "HEIF" and not _heif():
        raise NotRead(path, kind.name, _NO_HEIF)
    if kind.plugin == "AVIF":
        if not features.check("avif"):
            raise NotRead(path, kind.name, "Install Pillow from its wheel, which reads it, or export it as JPEG.")
        AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # pictures are read in parallel processes
    return kind


@lru_cache(maxsize=1)
def _heif() -> bool:
    """Whether HEIC is read, which needs the extra `heif`."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener(decode_threads=1, thumbnails=False, depth_images=False, aux_images=False)
    return True


def _loaded(path: File, image: Image.Image, kind: Kind, most: int, side: int | None) -> PictureFile:
    """Decode an opened picture whose size has been checked."""
    note = _note(image, kind)
    if kind.plugin == "JPEG":
        _check_scans(path, image.size, count_scans(path, _MAX_SCANS), most)
        if side:
            _decode_small(image, side)
    elif kind.plugin == "TIFF":
        _check_numbers(path, image, most)
    elif tiling := image.info.get("tiling"):  # of HEIC
        check_size(
            path,
            (tiling["tile_width"] * tiling["num_columns"], tiling["tile_height"] * tiling["num_rows"]),
            "tiles of together ",
            2 * most,
        )
    image.load()
    turned = image.getexif().get(ExifTags.Base.Orientation, 1) in _TURNS
    upright = ImageOps.exif_transpose(image) if turned else image
    picture = to_rgb(_eight_bits(upright) if kind.plugin == "TIFF" else upright)
    return PictureFile(
        _reduced(picture, None if kind.plugin == "JPEG" else side), turned, note, not turned and kind.plugin in _PLAIN
    )


def _note(image: Image.Image, kind: Kind) -> str:
    """Asked before pixels are decoded: Pillow looks for the next frame of a GIF from the first."""
    if kind.plugin == "TIFF":
        return "it has further pages; the first is read" if getattr(image, "is_animated", False) else ""
    animated = kind.plugin in _ANIMATED and getattr(image, "is_animated", False)
    return "it is animated; its first frame is read" if animated else ""


def _check_scans(path: File, size: tuple[int, int], scans: int, most: int) -> None:
    if scans > min(_MAX_SCANS, _MAX_WORK * most / max(1, size[0] * size[1])):
        raise AgfasError(
            f"{path} sends its {size[0]} x {size[1]} pixels in {scans if scans <= _MAX_SCANS else 'too many'} scans,"
            " which would take very long. Save it again."
        )


def _decode_small(image: Image.Image, side: int) -> None:
    """Have a JPEG decoded at 1/2, 1/4 or 1/8 if its longer side stays at least `side`."""
    scale = side / max(image.size)
    image.draft(None, (math.ceil(image.width * scale), math.ceil(image.height * scale)))


def _reduced(picture: Image.Image, side: int | None) -> Image.Image:
    for factor in (8, 4, 2):
        if side and max(picture.size) // factor >= side:
            return picture.reduce(factor)
    return picture


def _check_numbers(path: File, image: Image.Image, most: int) -> None:
    """Refuse a TIFF whose numbers are no grey levels of up to 16 bits, and one that is larger than its picture."""
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    if is_raw(tags):
        raise NotRead(path, "a camera raw picture or its preview", "Export it as JPEG or PNG.")
    if set(tags.get(_SAMPLES, (1,))) - {1, 4} or max(tags.get(_BITS, (1,))) > 16:
        raise NotRead(path, "a TIFF picture of floating-point, signed or 32-bit numbers", _EIGHT)
    if image.mode == "LAB":
        raise NotRead(path, "a TIFF picture in Lab colours", _EIGHT)
    check_size(path, (tags.get(_TILE_WIDTH, 0), tags.get(_TILE_LENGTH, 0)), "tiles of ", most)
    if "jpeg" in str(image.info.get("compression")):
        _check_scans(path, image.size, scans_of_strips(path, tags), most)


def _eight_bits(image: Image.Image) -> Image.Image:
    """A TIFF's grey levels of 12 or 16 bits as 8, black as 0."""
    if image.mode not in _WIDE_MODES:
        return image
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    grey = _narrowed(image, 4095 if tags.get(_BITS) == (12,) else 65535)
    return ImageOps.invert(grey) if tags.get(_PHOTOMETRIC, 1) == 0 else grey


def png_bytes(pixels: np.ndarray) -> bytes:
    """(H, W, 3) or (H, W) uint8 as the bytes of a PNG file."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode as 8-bit RGB: grey repeated, palette and CMYK converted, alpha blended with black.

    Raises:
        AgfasError: floating-point numbers, of which nobody knows what is white.
    """
    if image.mode == "F":
        raise AgfasError("The picture holds floating-point numbers. Convert it to 8 bits.")
    if image.mode in _WIDE_MODES:
        return _narrowed(image, 65535).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in image.info:
        return _on_black(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _narrowed(image: Image.Image, white: int) -> Image.Image:
    """Grey levels up to `white` as 8 bits, rounded."""
    grey = Image.new("L", image.size)
    for place, strip in _strips(image):
        levels = np.clip(np.asarray(strip).astype(np.int32), 0, white)
        grey.paste(Image.fromarray(((levels * 255 + white // 2) // white).astype(np.uint8)), place)
    return grey


def _on_black(image: Image.Image) -> Image.Image:
    picture = Image.new("RGB", image.size)
    for place, strip in _strips(image):
        layer = strip.convert("RGBA")
        black = Image.new("RGBA", layer.size, (0, 0, 0, 255))
        picture.paste(Image.alpha_composite(black, layer).convert("RGB"), place)
    return picture


def _strips(image: Image.Image) -> Iterator[tuple[tuple[int, int], Image.Image]]:
    """An image in pieces of `_STRIP` pixels over its whole width, each with its left top corner."""
    rows = max(1, _STRIP // max(1, image.width))
    for top in range(0, image.height, rows):
        yield (0, top), image.crop((0, top, image.width, min(image.height, top + rows)))


def check_file(path: File, what: str) -> None:
    """Check that a picture or video file exists and is not empty.

    Raises:
        AgfasError: no such file, a folder, or an empty file.
    """
    if isinstance(path, HeldFile):
        if not path.content:
            raise AgfasError(f"{path} is empty (0 bytes). Send it again.")
        return
    if path.is_dir():
        raise AgfasError(f"{path} is a folder, not a {what}. Name one {what} file in it.")
    if not path.is_file():
        raise AgfasError(f"No {what} at {path}. Check the name.")
    if path.stat().st_size == 0:
        raise AgfasError(f"{path} is empty (0 bytes). Export or copy it again.")


def _head(path: File) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(HEAD)
    except OSError as error:
        raise AgfasError(f"{path} cannot be read ({error.strerror}). Check its permissions.") from error


def _damaged(path: File, kind: Kind, why: str) -> AgfasError:
    again = "Export or copy it again." if kind.plugin in _PLAIN else "Copy it again, or export it as JPEG."
    return AgfasError(f"{path} is a damaged {kind.name.partition(' ')[2]}: {why}. {again}")


def most_pixels(path: File) -> int:
    """How many pixels are read of a file: `MAX_PIXELS`, or what a file in memory may have."""
    given = path.max_pixels if isinstance(path, HeldFile) else None
    return MAX_PIXELS if given is None else given


def check_size(path: File, size: tuple[int, int], of: str = "", most: int | None = None) -> None:
    """Raise AgfasError for more than `most` pixels (`most_pixels`); `of` says which picture of a file it is."""
    most = most_pixels(path) if most is None else most
    if size[0] * size[1] > most or max(size) > _MAX_SIDE:
        raise _too_large(path, f"{of}{size[0]} x {size[1]}", most)


def _too_large(path: File, size: str, most: int) -> AgfasError:
    sides = f" and sides of {_MAX_SIDE:,}" if most >= _MAX_SIDE else ""
    return AgfasError(
        f"{path} has {size} pixels; at most {most / 1e6:.3g} million{sides} are read. Crop it to the face"
        " and make it smaller."
    )


def check_pixels(picture: np.ndarray) -> None:
    """Raise ValueError unless a picture is (H, W, 3) uint8 and not empty."""
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or picture.size == 0:
        raise ValueError(f"a picture must be (H, W, 3) uint8 and not empty, not {picture.shape} {picture.dtype}.")
