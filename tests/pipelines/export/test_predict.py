"""`predict.py` beside the program: the same pixels, faces, crops and noise, with numpy and OpenCV alone."""

from __future__ import annotations

import ast
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from detection_graphs import tiny_yunet, with_red
from PIL import Image

from dfg.noise import noise_for_keys
from pipelines.data import alignment
from pipelines.data.crop import to_square
from pipelines.data.detection import load_detector
from pipelines.data.images import read_noted
from pipelines.errors import AgfasError
from pipelines.export import predict

ALLOWED = {"numpy", "cv2", "onnxruntime", "openvino"}


def test_it_imports_its_libraries_alone():
    from sys import stdlib_module_names

    tree = ast.parse(Path(predict.__file__).read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} - set(stdlib_module_names) == ALLOWED


@pytest.mark.parametrize(
    ("height", "width", "size"), [(48, 48, 32), (32, 32, 48), (33, 32, 32), (70, 69, 224), (9, 9, 9)]
)
def test_resizing_is_pillows_to_the_last_bit(height, width, size):
    picture = np.random.default_rng(size).integers(0, 256, (height, width, 3), dtype=np.uint8)
    np.testing.assert_array_equal(predict.resize(picture, size), to_square(picture, size))


@pytest.mark.parametrize("shape", [(4, 2, 2), (1, 1, 17), (3, 5, 7)])
def test_noise_is_torchs_to_the_last_digits(shape):
    drawn = predict.normal_noise("posterior/abc", 3, shape)
    np.testing.assert_allclose(drawn, noise_for_keys(["posterior/abc"], shape, 3)[0].numpy(), atol=3e-6)
    assert drawn.dtype == np.float32


@pytest.mark.parametrize("scale", [0.3, 1.0, 2.7])
@pytest.mark.parametrize("template", alignment.TEMPLATES)
def test_crops_are_those_of_the_program(scale, template):
    random = np.random.default_rng(5)
    picture = random.integers(0, 256, (90, 120, 3), dtype=np.uint8)
    points = alignment.TEMPLATES[template]
    landmarks = (points * 32 * scale + random.normal(size=(5, 2)) + (20, 10)).astype(np.float32)
    expected = alignment.align(picture, landmarks, template, 32).picture
    np.testing.assert_array_equal(predict.align(picture, landmarks, points, 32), expected)


AGFAS = alignment.TEMPLATES["agfas"]


def unlike_a_face() -> np.ndarray:
    """Landmarks that no rotation and scale brings nearer to the template than a point."""
    wanted, drawn = AGFAS @ (1, 1j), np.random.default_rng(0).normal(size=(5, 2)) @ (1, 1j) * 10
    wanted, drawn = wanted - wanted.mean(), drawn - drawn.mean()
    drawn -= (wanted.conj() @ drawn) / (wanted.conj() @ wanted) * wanted
    return np.stack([drawn.real, drawn.imag], axis=1) + 16


@pytest.mark.parametrize("landmarks", [np.full((5, 2), 3.0), unlike_a_face(), AGFAS * 32 + 500])
def test_landmarks_that_are_no_faces_are_refused(landmarks):
    picture = np.zeros((40, 40, 3), np.uint8)
    with pytest.raises(AgfasError):
        alignment.align(picture, landmarks, "agfas", 32)
    with pytest.raises(predict.Refused):
        predict.align(picture, landmarks, AGFAS, 32)


@pytest.fixture(scope="module")
def yunet(tmp_path_factory) -> Path:
    return tiny_yunet(tmp_path_factory.mktemp("yunet") / "tiny.onnx")


SCENES = {
    "plain": (with_red(96, 160, (64, 40, 8)), {}),
    "several": (with_red(96, 160, (64, 40, 8), (16, 16, 8)), {}),
    "large": (with_red(480, 640, (256, 160, 8)), {"longer_side": 320}),
    "none": (with_red(64, 64), {}),
    "unsure": (with_red(96, 96, (40, 40, 7)), {"sure": 0.99}),
    "not turned": (with_red(96, 96, (40, 40, 5)), {"sure": 0.0}),
}


@pytest.mark.parametrize("scene", SCENES)
def test_faces_are_those_of_the_program(scene, yunet):
    picture, options = SCENES[scene]
    detector = load_detector("yunet", yunet, **options)
    expected = detector(picture)
    found = predict.FaceFinder(yunet.read_bytes(), detector.fingerprint())(picture)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.box, other.box)
        np.testing.assert_array_equal(one.landmarks, other.landmarks)
        assert one.score == other.score


def photo(mode: str = "RGB", size: tuple[int, int] = (20, 14)) -> Image.Image:
    """Smooth, so that a wrong pixel is not hidden by the rounding of a decoder."""
    rows, columns = np.mgrid[: size[1], : size[0]]
    values = np.stack([rows * 12, columns * 9, 250 - rows * 5 - columns * 4, 40 + columns * 10], axis=2).astype(
        np.uint8
    )
    if mode == "I;16":
        return Image.fromarray((rows * 3000 + columns * 700).astype(np.uint16))
    picture = Image.fromarray(values, "RGBA")
    return picture if mode == "RGBA" else picture.convert("RGB").convert(mode)


def with_orientation(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def xmp_png(path: Path, orientation: int) -> None:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", f'<rdf tiff:Orientation="{orientation}"/>')
    photo().save(path, pnginfo=info)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_pictures_are_upright_as_in_the_program(tmp_path, suffix, orientation):
    path = tmp_path / f"one.{suffix}"
    photo().save(path, exif=with_orientation(orientation))
    np.testing.assert_array_equal(predict.read_picture(path), np.asarray(read_noted(path).image))


def test_an_orientation_in_xmp_counts_too(tmp_path):
    xmp_png(tmp_path / "one.png", 6)
    found = predict.read_picture(tmp_path / "one.png")
    assert found.shape == (20, 14, 3)
    np.testing.assert_array_equal(found, np.asarray(read_noted(tmp_path / "one.png").image))


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        *((mode, "png") for mode in ("L", "LA", "P", "RGBA", "1", "I;16")),
        ("L", "jpg"),
        ("RGBA", "webp"),
    ],
)
def test_every_kind_of_pixel_is_read_as_in_the_program(tmp_path, mode, suffix):
    path = tmp_path / f"one.{suffix}"
    photo(mode).save(path, **({"lossless": True} if suffix == "webp" else {}))
    np.testing.assert_array_equal(predict.read_picture(path), np.asarray(read_noted(path).image))


def encoded(form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    photo().save(stream, form, **options)
    return stream.getvalue()


def huge_png() -> bytes:
    content = bytearray(encoded("PNG"))
    content[16:24] = struct.pack(">II", 60_000, 60_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


def in_cmyk() -> bytes:
    stream = io.BytesIO()
    photo().convert("CMYK").save(stream, "JPEG")
    return stream.getvalue()


BROKEN = {
    "no such file": (None, "cannot be read"),
    "no picture": (b"hello", "no JPEG, PNG or WebP"),
    "a GIF": (encoded("GIF"), "no JPEG, PNG or WebP"),
    "a cut JPEG": (encoded("JPEG")[:-40], "cut off"),
    "a cut PNG": (encoded("PNG")[:-40], "cut off"),
    "a changed PNG": (
        encoded("PNG")[:60] + b"x" + encoded("PNG")[61:],
        "damaged",
    ),
    "a cut WebP": (encoded("WEBP")[:-40], "cut off"),
    "a start alone": (b"\xff\xd8\xff", "cut off"),
    "a huge PNG": (huge_png(), "million"),
    "CMYK": (in_cmyk(), "CMYK"),
    "an animation": (encoded("WEBP", save_all=True, append_images=[photo("L")]), "animated"),
    "one transparent colour": (encoded("PNG", transparency=(1, 2, 3)), "transparent colour"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_not_read_is_refused(tmp_path, case):
    content, words = BROKEN[case]
    if content is not None:
        (tmp_path / "one").write_bytes(content)
    with pytest.raises(predict.Refused, match=words):
        predict.read_picture(tmp_path / "one")
