"""Where reading pictures draws its lines: sizes, scans, kinds of numbers, modes, orientations, and what it says."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import AvifImagePlugin, Image
from test_formats import HEIC_BEGIN, encoded, write
from test_images import png_header

from pipelines.data import images
from pipelines.data.images import NotRead, check_pixels, check_size, decode_picture, read_noted, read_picture, to_rgb
from pipelines.errors import AgfasError

HERE = Path("a.png")


def test_most_pixels_and_longest_side():
    assert images.MAX_PIXELS == 89_000_000
    check_size(HERE, (44_500, 2000))
    check_size(HERE, (65_535, 1358))
    with pytest.raises(
        AgfasError, match=r"^a\.png has 44501 x 2000 pixels; at most 89 million and sides of 65,535 are"
    ):
        check_size(HERE, (44_501, 2000))
    for size in ((65_536, 1), (1, 65_536)):
        with pytest.raises(
            AgfasError, match=rf"has tiles of {size[0]} x {size[1]} pixels; at most 89 million and sides"
        ):
            check_size(HERE, size, "tiles of ")
    check_size(HERE, (10, 10), most=100)
    with pytest.raises(AgfasError, match=r"11 x 10 pixels; at most 0\.0001 million are read\. Crop it to the face"):
        check_size(HERE, (11, 10), most=100)


@pytest.mark.parametrize(
    ("size", "most", "allowed"),
    [((10, 10), 10**6, 100), ((10, 10), 100, 24), ((10, 10), 50, 12), ((10, 10), 52, 12), ((20, 10), 400, 48)],
)
def test_scans_are_bounded_by_number_and_by_work(size, most, allowed):
    images._check_scans(HERE, size, allowed, most)
    words = f"{allowed + 1}" if allowed < 100 else "too many"
    with pytest.raises(
        AgfasError, match=f"its {size[0]} x {size[1]} pixels in {words} scans, which would take very long"
    ):
        images._check_scans(HERE, size, allowed + 1, most)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({}, ""), ({339: (1, 4), 258: (16,)}, ""), ({258: (8, 8, 8)}, ""), ({322: 9433, 323: 9433}, ""),
        ({339: (2,)}, "floating-point, signed or 32-bit"), ({339: (1, 3)}, "floating-point, signed or 32-bit"),
        ({258: (17,)}, "floating-point, signed or 32-bit"), ({258: (8, 8, 32)}, "floating-point, signed or 32-bit"),
        ({322: 9434, 323: 9434}, "tiles of 9434 x 9434 pixels"), ({254: 1}, "a camera raw picture"),
        ({254: 2}, ""), ({254: 3}, "a camera raw picture"), ({50706: (1, 4, 0, 0)}, "a camera raw picture"),
    ],
)  # fmt: skip
def test_numbers_of_a_tiff(tags, message):
    picture = SimpleNamespace(tag_v2=tags, mode="L", info={}, size=(4, 4))
    if not message:
        images._check_numbers(HERE, picture, images.MAX_PIXELS)
        return
    with pytest.raises(AgfasError, match=message):
        images._check_numbers(HERE, picture, images.MAX_PIXELS)


def test_a_png_that_ends_in_its_header_is_refused_by_its_size(tmp_path):
    for length, message in ((24, "60000 x 60000 pixels; at most 89 million"), (23, "a damaged PNG picture")):
        with pytest.raises(AgfasError, match=message):
            read_picture(write(tmp_path / "a.png", png_header(60_000, 60_000)[:length]))


@pytest.mark.parametrize(
    ("content", "end"),
    [
        (png_header(64, 64), "is a damaged PNG picture: .*Export or copy it again."),
        (b"\xff\xd8\xff\xe0", "is a damaged JPEG picture: .*Export or copy it again."),
        (HEIC_BEGIN, "is a damaged HEIC picture: .*Copy it again, or export it as JPEG."),
        (b"II*\0" + bytes(40), "is a damaged TIFF picture: .*Copy it again, or export it as JPEG."),
    ],
)
def test_what_to_do_about_a_damaged_file(tmp_path, content, end):
    with pytest.raises(AgfasError, match=f"{end}$"):
        read_picture(write(tmp_path / "a", content))


def test_a_file_that_cannot_be_opened_is_refused(tmp_path):
    with pytest.raises(AgfasError, match=r"cannot be read \(Is a directory\)\. Check its permissions"):
        images._head(tmp_path)


def test_only_the_decoder_of_its_kind_sees_a_file(tmp_path, monkeypatch):
    asked, open_image = [], Image.open

    def recorded(*arguments, formats=None):
        asked.append(formats)
        return open_image(*arguments, formats=formats)

    monkeypatch.setattr(Image, "open", recorded)
    monkeypatch.setattr(AvifImagePlugin, "DEFAULT_MAX_THREADS", 0)
    for plugin in ("PNG", "AVIF"):
        read_picture(write(tmp_path / "a", encoded(plugin)))
    decode_picture(encoded("BMP"))
    assert asked == [("PNG",), ("AVIF",), ("JPEG", "PNG", "WEBP", "BMP", "PPM")]
    assert AvifImagePlugin.DEFAULT_MAX_THREADS == 1


def test_heic_is_read_by_its_library_alone(monkeypatch):
    asked = []
    monkeypatch.setitem(
        sys.modules, "pillow_heif", SimpleNamespace(register_heif_opener=lambda **options: asked.append(options))
    )
    assert images._heif.__wrapped__() is True
    assert asked == [{"decode_threads": 1, "thumbnails": False, "depth_images": False, "aux_images": False}]
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert images._heif.__wrapped__() is False
    monkeypatch.setattr(images.features, "check", lambda name: False)
    with pytest.raises(NotRead, match=r"an AVIF picture, which is not read\. Install Pillow from its wheel"):
        images._readable(HERE, encoded("AVIF")[:400])


@pytest.mark.parametrize("orientation", range(10))
def test_every_orientation_comes_upright(tmp_path, orientation):
    pixels = np.arange(18, dtype=np.uint8).reshape(2, 3, 3) * 10
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    turns = {
        2: lambda p: p[:, ::-1], 3: lambda p: p[::-1, ::-1], 4: lambda p: p[::-1], 5: lambda p: p.transpose(1, 0, 2),
        6: lambda p: np.rot90(p, -1), 7: lambda p: np.rot90(p, 2).transpose(1, 0, 2), 8: lambda p: np.rot90(p, 1),
    }  # fmt: skip
    found = read_noted(tmp_path / "a.png")
    expected = turns.get(orientation, lambda p: p)(pixels)
    assert np.array_equal(np.asarray(found.image), expected)
    assert (found.turned, found.plain, found.note) == (orientation in turns, orientation not in turns, "")
    assert np.array_equal(decode_picture((tmp_path / "a.png").read_bytes()), expected)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "RGBa"])
def test_alpha_of_every_mode_is_blended_with_black(mode):
    grey, alpha = np.array([[0, 100, 255, 200]], np.uint8), np.array([[255, 0, 255, 128]], np.uint8)
    image = Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)])
    image = image.convert("RGBA").convert("RGBa") if mode == "RGBa" else image.convert(mode)
    if mode == "PA":  # a conversion to it drops alpha
        image.putalpha(Image.fromarray(alpha))
    found = np.asarray(to_rgb(image)).astype(int)
    assert found.shape == (1, 4, 3)
    assert np.abs(found[0, :, 0] - [0, 0, 255, 100]).max() <= 1


def test_modes_without_alpha():
    palette = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    assert np.asarray(to_rgb(palette))[0].tolist() == [[10, 20, 30], [40, 50, 60]]
    palette.info["transparency"] = 1
    assert np.asarray(to_rgb(palette))[0].tolist() == [[10, 20, 30], [0, 0, 0]]
    plain = Image.new("RGB", (2, 2))
    assert to_rgb(plain) is plain
    with pytest.raises(AgfasError, match="holds floating-point numbers"):
        to_rgb(Image.new("F", (2, 2)))


@pytest.mark.parametrize("mode", ["I;16", "I"])
def test_16_bits_are_rounded_to_8(mode):
    levels = np.arange(65_536, dtype=np.int32).reshape(256, 256)
    image = Image.fromarray(levels.astype(np.uint16)) if mode == "I;16" else Image.fromarray(levels)
    assert image.mode == mode
    assert np.array_equal(np.asarray(to_rgb(image))[..., 2], np.round(levels / 257).astype(np.uint8))
    beyond = Image.fromarray(np.array([[-5, 70_000]], np.int32))
    assert np.asarray(to_rgb(beyond))[0, :, 0].tolist() == [0, 255]
    twelve = np.array([[0, 9, 2048, 4095]], np.uint16)
    assert np.asarray(images._narrowed(Image.fromarray(twelve), 4095))[0].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize(
    "wrong", [np.zeros((4, 4)), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)]
)
def test_pixels_of_another_shape_or_type(wrong):
    check_pixels(np.zeros((1, 1, 3), np.uint8))
    with pytest.raises(ValueError, match=r"a picture must be \(H, W, 3\) uint8 and not empty, not \("):
        check_pixels(wrong)


@pytest.mark.parametrize(("side", "size"), [(100, 100), (101, 200), (50, 50), (51, 100), (25, 25), (26, 50), (1, 25)])
def test_reduced_by_2_4_or_8_and_never_below_what_is_asked_for(side, size):
    assert images._reduced(Image.new("L", (200, 40)), side).size == (size, size // 5)
    assert images._reduced(Image.new("L", (200, 40)), None).size == (200, 40)
