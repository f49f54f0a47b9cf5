"""Reading untrusted picture files: everything is checked before it is used, and every refusal gives a reason."""

from __future__ import annotations

import io
import struct
import warnings
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from pipelines.errors import AgfasError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "PPM")
# Width times height; each pixel takes three bytes of memory.
MAX_PIXELS = 89_000_000
_ALLOWED = "Allowed are JPEG, PNG, WebP, BMP, PGM and PPM."
_BEGINNINGS = (_PNG := b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"RIFF")
_WIDE_MODES = ("I", "I;16", "I;16L", "I;16B")
# EXIF orientations that are not upright.
_TURNS = range(2, 9)


def read_picture(path: Path) -> Image.Image:
    """Read a picture file as RGB, rotated by its EXIF orientation.

    The content decides the format, not the name. The size in the header is checked before any pixel is decoded.
    Transparent parts become black, 16-bit grey is scaled to 8 bits.

    Raises:
        AgfasError: no file, an empty file, another format, too many pixels, or a truncated picture.
    """
    return read_turned(path)[0]


def read_turned(path: Path) -> tuple[Image.Image, bool]:
    """As `read_picture`, and whether the picture was rotated or mirrored by its EXIF orientation."""
    check_file(path, "picture")
    head = _head(path)
    if head.startswith(_PNG) and len(head) == 24:  # Pillow reads a PNG up to its first pixels before it gives the size
        check_size(path, struct.unpack(">II", head[16:24]))
    with warnings.catch_warnings():
        # Pillow warns about huge pictures, which are refused here, and about broken EXIF blocks, which are harmless.
        warnings.simplefilter("ignore")
        try:
            with Image.open(path, formats=FORMATS) as image:
                check_size(path, image.size)
                image.load()
                turned = image.getexif().get(ExifTags.Base.Orientation, 1) in _TURNS
                return to_rgb(ImageOps.exif_transpose(image)), turned
        except Image.DecompressionBombError:
            raise _too_large(path, "far too many") from None
        except UnidentifiedImageError:
            raise _unidentified(path, head) from None
        except AgfasError:
            raise
        except Exception as error:  # decoders raise OSError, ValueError, struct.error, ... on foreign bytes
            raise AgfasError(
                f"{path} is a damaged picture and cannot be decoded ({error}). Export or copy it again."
            ) from error


def decode_picture(content: bytes) -> np.ndarray:
    """The bytes of a file that `read_picture` accepted, as (H, W, 3) uint8 RGB, upright."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # broken EXIF blocks
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            return np.asarray(to_rgb(ImageOps.exif_transpose(image)))


def png_bytes(pixels: np.ndarray) -> bytes:
    """(H, W, 3) or (H, W) uint8 as the bytes of a PNG file."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode as 8-bit RGB: grey repeated, palette and CMYK converted, alpha blended with black."""
    if image.mode in _WIDE_MODES:
        values = np.clip(np.asarray(image).astype(np.float64) / 257, 0, 255)  # 65535 / 257 = 255
        return Image.fromarray(values.round().astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, (0, 0, 0, 255)), layer).convert("RGB")
    return image.convert("RGB")


def check_file(path: Path, what: str) -> None:
    """Check that a picture or video file exists and is not empty.

    Raises:
        AgfasError: no such file, a folder, or an empty file.
    """
    if path.is_dir():
        raise AgfasError(f"{path} is a folder, not a {what}. Name one {what} file in it.")
    if not path.is_file():
        raise AgfasError(f"No {what} at {path}. Check the name.")
    if path.stat().st_size == 0:
        raise AgfasError(f"{path} is empty (0 bytes). Export or copy it again.")


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(24)
    except OSError as error:
        raise AgfasError(f"{path} cannot be read ({error.strerror}). Check its permissions.") from error


def _unidentified(path: Path, head: bytes) -> AgfasError:
    if head.startswith(_BEGINNINGS):
        return AgfasError(f"{path} is a damaged picture: its header is truncated. Export or copy it again.")
    return AgfasError(f"{path} is not a picture. {_ALLOWED}")


def check_size(path: Path, size: tuple[int, int], of: str = "") -> None:
    """Raise AgfasError if a picture has more than `MAX_PIXELS`; `of` says which picture of a file it is."""
    if size[0] * size[1] > MAX_PIXELS:
        raise _too_large(path, f"{of}{size[0]} x {size[1]}")


def _too_large(path: Path, size: str) -> AgfasError:
    return AgfasError(
        f"{path} has {size} pixels; at most {MAX_PIXELS / 1e6:.0f} million are read. Crop it to the face"
        " and make it smaller."
    )


def check_pixels(picture: np.ndarray) -> None:
    """Raise ValueError unless a picture is (H, W, 3) uint8 and not empty."""
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or picture.size == 0:
        raise ValueError(f"a picture must be (H, W, 3) uint8 and not empty, not {picture.shape} {picture.dtype}.")
