"""Reading a stranger's picture: nothing of it is trusted before it is checked, and every refusal says why."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from pipelines.errors import AgfasError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "PPM")
MAX_PIXELS = 89_000_000
_ALLOWED = "Allowed are JPEG, PNG, WebP, BMP, PGM and PPM."
_BEGINNINGS = (_PNG := b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"RIFF")
_WIDE_MODES = ("I", "I;16", "I;16L", "I;16B")


def read_picture(path: Path, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """A picture file as an RGB image, turned upright by its EXIF orientation.

    The format is known by the content, not by the name. The header's size is checked before a pixel is
    decoded. Transparent parts are laid on black, 16-bit grey is scaled to 8 bits.

    Args:
        path: the file.
        max_pixels: width times height that is still decoded; three bytes of memory each.

    Raises:
        AgfasError: no file, an empty one, another format, too many pixels, or a picture that breaks off.
    """
    _check_file(path)
    head = _head(path)
    _check_png_header(path, head, max_pixels)
    with warnings.catch_warnings():
        # Pillow's own guard against huge pictures warns where ours refuses, and a broken EXIF block harms no pixel.
        warnings.simplefilter("ignore")
        try:
            with Image.open(path, formats=FORMATS) as image:
                _check_size(path, image.size, max_pixels)
                image.load()
                return to_rgb(ImageOps.exif_transpose(image))
        except Image.DecompressionBombError:
            raise _too_large(path, "far too many", max_pixels) from None
        except UnidentifiedImageError:
            raise _unidentified(path, head) from None
        except AgfasError:
            raise
        except Exception as error:  # decoders of foreign bytes raise OSError, ValueError, struct.error, ...
            raise AgfasError(
                f"{path} is a damaged picture and cannot be decoded ({error}). Export or copy it again."
            ) from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Any mode of Pillow's as 8-bit RGB: grey repeated, palette and CMYK converted, alpha laid on black."""
    if image.mode in _WIDE_MODES:
        values = np.clip(np.asarray(image).astype(np.float64) / 257, 0, 255)  # 65535 / 257 = 255
        return Image.fromarray(values.round().astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, (0, 0, 0, 255)), layer).convert("RGB")
    return image.convert("RGB")


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise AgfasError(f"{path} is a folder, not a picture. Name one picture file in it.")
    if not path.is_file():
        raise AgfasError(f"No picture at {path}. Check the name.")
    if path.stat().st_size == 0:
        raise AgfasError(f"{path} is empty (0 bytes), so it holds no picture. Export or copy it again.")


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(24)
    except OSError as error:
        raise AgfasError(f"{path} cannot be read ({error.strerror}). Check its permissions.") from error


def _check_png_header(path: Path, head: bytes, max_pixels: int) -> None:
    """Pillow reads a PNG on to its first pixels before it tells the size; the header says it at byte 16."""
    if head.startswith(_PNG) and len(head) == 24:
        _check_size(path, struct.unpack(">II", head[16:24]), max_pixels)


def _unidentified(path: Path, head: bytes) -> AgfasError:
    if head.startswith(_BEGINNINGS):
        return AgfasError(f"{path} is a damaged picture: it breaks off in its header. Export or copy it again.")
    return AgfasError(f"{path} is not a picture, whatever its name says. {_ALLOWED}")


def _check_size(path: Path, size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise _too_large(path, f"{width} x {height}", max_pixels)


def _too_large(path: Path, size: str, max_pixels: int) -> AgfasError:
    return AgfasError(
        f"{path} says that it has {size} pixels; at most {max_pixels / 1e6:.0f} million are read."
        " Crop it to the face and make it smaller."
    )
