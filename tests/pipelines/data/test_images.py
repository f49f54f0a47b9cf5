"""Pictures of strangers: read as they look, or refused in one sentence that says what to do."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.data.images import read_picture
from pipelines.errors import AgfasError

COLOUR = (200, 100, 50)


def save(path: Path, image: Image.Image, **options) -> Path:
    image.save(path, **options)
    return path


def png_header(width: int, height: int) -> bytes:
    """A PNG that ends after a header of that size."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


def png_bytes(size: int = 64) -> bytes:
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (size, size, 3), dtype=np.uint8)
    Image.fromarray(noise).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("header.png", png_header(60_000, 60_000), "60000 x 60000 pixels; at most 89 million"),
        ("wide.png", png_header(12_000, 9_000), "12000 x 9000 pixels; at most 89 million"),
        ("header_only.png", png_header(64, 64), "a damaged "),
        ("start.jpg", b"\xff\xd8\xff\xe0", "a damaged "),
        ("text.jpg", b"this is not a picture\n" * 20, "not a picture"),
        ("empty.png", b"", r"empty \(0 bytes\)"),
        ("half.png", png_bytes()[:2000], "a damaged "),
        ("broken.png", png_bytes()[:60] + b"\x00" * 500 + png_bytes()[560:], "a damaged "),
        ("other.gif", b"GIF89a" + b"\x01\x00\x01\x00\x80\x00\x00" + b"\x00" * 30, "a damaged GIF picture"),
        ("null.png", b"\x00" * 1000, "not a picture"),
    ],
)  # fmt: skip
def test_hostile_file_is_refused_in_one_sentence_with_its_name(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(AgfasError, match=message) as caught:
        read_picture(path)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder_are_refused(tmp_path):
    with pytest.raises(AgfasError, match="No picture at"):
        read_picture(tmp_path / "none.png")
    with pytest.raises(AgfasError, match="is a folder"):
        read_picture(tmp_path)


def test_truncated_jpeg_is_refused(tmp_path):
    path = save(tmp_path / "a.jpg", Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)))
    path.write_bytes(path.read_bytes()[:-800])
    with pytest.raises(AgfasError, match="a damaged "):
        read_picture(path)


@pytest.mark.parametrize(("name", "kind"), [("a.txt", "PNG"), ("a.png", "JPEG"), ("a.x", "WEBP"), ("a", "BMP")])
def test_format_is_known_by_content(tmp_path, name, kind):
    path = save(tmp_path / name, Image.new("RGB", (8, 6), COLOUR), format=kind)
    image = read_picture(path)
    assert (image.mode, image.size) == ("RGB", (8, 6))
    assert np.abs(np.asarray(image).astype(int) - COLOUR).max() <= 6


def test_limit_of_pixels_is_inclusive(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", Image.new("RGB", (10, 10)))
    monkeypatch.setattr("pipelines.data.images.MAX_PIXELS", 100)
    assert read_picture(path).size == (10, 10)
    monkeypatch.setattr("pipelines.data.images.MAX_PIXELS", 99)
    with pytest.raises(AgfasError, match="10 x 10 pixels"):
        read_picture(path)


def test_exif_orientation_is_applied(tmp_path):
    pixels = np.zeros((4, 8, 3), np.uint8)
    pixels[:, :4] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    path = save(tmp_path / "a.png", Image.fromarray(pixels), exif=exif)
    turned = np.asarray(read_picture(path))
    assert turned.shape == (8, 4, 3)
    assert turned[:4].min() == 255
    assert turned[4:].max() == 0


def test_grey_of_16_bits_is_scaled(tmp_path):
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    path = save(tmp_path / "a.png", Image.fromarray(values))
    assert np.asarray(read_picture(path))[0, :, 1].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK"])
def test_other_modes_become_rgb(tmp_path, mode):
    kind = "JPEG" if mode == "CMYK" else "PNG"
    path = save(tmp_path / "a", Image.new("RGB", (8, 8), (255, 255, 255)).convert(mode), format=kind)
    image = read_picture(path)
    assert image.mode == "RGB"
    assert np.asarray(image).min() >= 250


def test_transparent_parts_are_laid_on_black(tmp_path):
    pixels = np.full((2, 2, 4), 255, np.uint8)
    pixels[0, 0, 3] = 0
    image = np.asarray(read_picture(save(tmp_path / "a.png", Image.fromarray(pixels))))
    assert image[0, 0].tolist() == [0, 0, 0]
    assert image[1, 1].tolist() == [255, 255, 255]
