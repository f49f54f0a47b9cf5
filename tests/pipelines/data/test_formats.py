"""Kinds of files: what people's phones, cameras and scanners write is read, or refused by its name; nothing is lost."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.data import images
from pipelines.data.decoding import count_scans
from pipelines.data.formats import (
    HEAD,
    KINDS,
    SUFFIXES,
    VIDEO_SUFFIXES,
    head_of,
    is_video,
    kind_beside,
    kind_named,
    kind_of,
    why_unread,
)
from pipelines.data.images import NotRead, decode_picture, read_noted, read_picture
from pipelines.data.importers.source import media_in
from pipelines.data.prepare.settings import build_recipe
from pipelines.data.prepare.sources import find_sources
from pipelines.errors import AgfasError
from pipelines.stages import prepare
from pipelines.stages.detect import find_media

COLOUR = (200, 100, 50)
# The first bytes of an iPhone's picture, and nothing else.
HEIC_BEGIN = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
heif = pytest.importorskip("pillow_heif")
heif.register_heif_opener()


def encoded(plugin: str, mode: str = "RGB", size: tuple[int, int] = (16, 12), **options) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, COLOUR).convert(mode).save(stream, plugin, **options)
    return stream.getvalue()


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def tiff(*entries: tuple[int, int, int, int], more: int = 0, behind: bytes = b"") -> bytes:
    """A little-endian TIFF of one directory: tag, type, number and value of each entry."""
    body = b"".join(struct.pack("<HHLL", *entry) for entry in sorted(entries))
    return b"II*\0" + struct.pack("<LH", 8, len(entries)) + body + struct.pack("<L", more) + behind


def grey_tiff(*extra: tuple[int, int, int, int], more: int = 0, bits: int = 8) -> bytes:
    """4 x 4 black pixels, at the end."""
    place = 8 + 2 + 12 * (9 + len(extra)) + 4
    entries = [(256, 4, 1, 4), (257, 4, 1, 4), (258, 3, 1, bits), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, place)]
    return tiff(*entries, (277, 3, 1, 1), (278, 4, 1, 4), (279, 4, 1, 16), *extra, more=more, behind=bytes(64))


# --- what is read -----------------------------------------------------------------------------------------------------

READ = {
    "a.heic": encoded("HEIF"), "heic-called.jpg": encoded("HEIF"), "a.avif": encoded("AVIF"), "a.tif": encoded("TIFF"),
    "lzw.tiff": encoded("TIFF", compression="tiff_lzw"), "jpeg.tif": encoded("TIFF", compression="jpeg"),
    "cmyk.tif": encoded("TIFF", "CMYK"), "a.gif": encoded("GIF"), "a.jfif": encoded("JPEG"),
    "a.JPE": encoded("JPEG"), "a.mpo": encoded("MPO", save_all=True, append_images=[Image.new("RGB", (16, 12))]),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_what_phones_and_scanners_write_is_read(tmp_path, name):
    found = read_noted(write(tmp_path / name, READ[name]))
    assert (found.image.mode, found.image.size, found.note) == ("RGB", (16, 12), "")
    assert np.abs(np.asarray(found.image).astype(int) - COLOUR).max() <= 40  # a GIF's palette is coarse
    assert found.plain == name.lower().endswith((".jfif", ".jpe", ".mpo"))
    if found.plain:
        assert np.array_equal(decode_picture(READ[name]), np.asarray(found.image))


@pytest.mark.parametrize("plugin", ["HEIF", "AVIF", "TIFF"])
def test_every_format_comes_upright(tmp_path, plugin):
    exif = Image.Exif()
    exif[0x0112] = 6
    found = read_noted(write(tmp_path / "a", encoded(plugin, exif=exif.tobytes())))
    assert found.image.size == (12, 16)
    assert not found.plain


@pytest.mark.parametrize("plugin", ["GIF", "PNG", "WEBP", "AVIF", "TIFF"])
def test_of_an_animation_the_first_frame_is_read_and_noted(tmp_path, plugin):
    content = encoded(plugin, save_all=True, append_images=[Image.new("RGB", (16, 12))])
    found = read_noted(write(tmp_path / "a", content))
    assert np.asarray(found.image).mean() > 90
    assert "first" in found.note
    assert read_noted(write(tmp_path / "b", encoded(plugin))).note == ""


@pytest.mark.parametrize(
    ("values", "bits", "photometric", "expected"),
    [([0, 257, 32896, 65535], 16, 1, [0, 1, 128, 255]), ([0, 257, 32896, 65535], 16, 0, [255, 254, 127, 0])],
)
def test_grey_of_16_bits_in_a_tiff(tmp_path, values, bits, photometric, expected):
    entries = [(256, 4, 1, 4), (257, 4, 1, 1), (258, 3, 1, bits), (259, 3, 1, 1), (262, 3, 1, photometric)]
    content = tiff(
        *entries, (273, 4, 1, 122), (277, 3, 1, 1), (278, 4, 1, 1), (279, 4, 1, 8), behind=struct.pack("<4H", *values)
    )
    assert np.asarray(read_picture(write(tmp_path / "a.tif", content)))[0, :, 0].tolist() == expected


def test_16_bits_and_alpha_are_converted_in_strips(tmp_path, monkeypatch):
    levels = np.arange(7 * 5, dtype=np.uint16).reshape(7, 5) * 1800
    Image.fromarray(levels).save(tmp_path / "wide.png")
    clear = Image.fromarray(np.random.default_rng(0).integers(0, 255, (7, 5, 4), dtype=np.uint8))
    clear.save(tmp_path / "clear.png")
    whole = [np.asarray(read_picture(tmp_path / name)) for name in ("wide.png", "clear.png")]
    assert np.array_equal(whole[0][..., 0], np.round(levels / 257).astype(np.uint8))
    monkeypatch.setattr(images, "_STRIP", 10)
    assert all(
        np.array_equal(one, np.asarray(read_picture(tmp_path / name)))
        for one, name in zip(whole, ("wide.png", "clear.png"), strict=True)
    )


@pytest.mark.parametrize("plugin", ["JPEG", "PNG"])
def test_a_large_picture_comes_small_enough_and_not_too_small(tmp_path, plugin):
    path = write(tmp_path / "a", encoded(plugin, size=(800, 640)))
    sizes = {side: read_picture(path, side=side).size for side in (1000, 401, 400, 150, 10)}
    assert sizes == {1000: (800, 640), 401: (800, 640), 400: (400, 320), 150: (200, 160), 10: (100, 80)}
    assert read_picture(path, max_pixels=800 * 640).size == (800, 640)
    with pytest.raises(AgfasError, match=r"800 x 640 pixels; at most 0\.512 million"):
        read_picture(path, max_pixels=800 * 640 - 1)


# --- what is refused --------------------------------------------------------------------------------------------------

REFUSED = {
    "float.tif": (encoded("TIFF", "F"), "floating-point, signed or 32-bit"),
    "wide.tif": (encoded("TIFF", "I"), "floating-point, signed or 32-bit"),
    "unsigned.tif": (grey_tiff(bits=32), "floating-point, signed or 32-bit"),
    "lab.tif": (encoded("TIFF", "LAB"), "Lab colours"),
    "preview.tif": (grey_tiff((254, 4, 1, 1)), "a camera raw picture or its preview"),
    "dng.jpg": (grey_tiff((50706, 1, 4, 1)), "a camera raw picture"),
    "a.jxl": (b"\xff\x0a" + bytes(40), "a JPEG XL picture, which is not read. Export it as JPEG"),
    "a.jp2": (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40), "a JPEG 2000 picture"),
    "a.psd": (b"8BPS\0\1" + bytes(40), "a Photoshop document"),
    "drawing.png": (b"<?xml version='1.0'?>\n<svg xmlns='x'/>", "an SVG drawing"),
    "video.jpg": (b"\0\0\0\x18ftypisom" + bytes(40), "a video, not a picture|video, not a picture"),
    "begin.heic": (HEIC_BEGIN, "a damaged HEIC picture"),
    "cut.heic": (encoded("HEIF", size=(64, 64))[:-9], "a damaged HEIC picture"),
    "cut.avif": (encoded("AVIF")[:-9], "a damaged AVIF picture"),
    "tags.tif": (grey_tiff((40_000, 1, 5_000_000, 8)), "its tags are larger than the file"),
    "pieces.tif": (tiff((273, 4, 200_000, 8), behind=bytes(900_000)), "cut into 200000 pieces"),
    "tile.tif": (grey_tiff((322, 4, 1, 60_000), (323, 4, 1, 60_000)), "tiles of 60000 x 60000 pixels"),
    "long.bmp": (b"BM" + struct.pack("<4I2i2H6I", 54, 0, 54, 40, 80_000_000, 1, 1, 8, 1, 0, 0, 0, 0, 0), "sides of"),
    "screen.gif": (b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\1\0\1\0\0\2\2\x44\1\0;", "million"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_read_is_refused_by_its_kind(tmp_path, name):
    content, message = REFUSED[name]
    with pytest.raises(AgfasError, match=message) as caught:
        read_picture(write(tmp_path / name, content))
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_further_pages_cost_nothing(tmp_path):
    start = len(grey_tiff())
    pages = b"".join(struct.pack("<HL", 0, start + 6 * (page + 1)) for page in range(20_000))
    found = read_noted(write(tmp_path / "a.tif", grey_tiff(more=start) + pages))
    assert found.note == "it has further pages; the first is read"


def test_a_jpeg_in_hundreds_of_scans_is_refused_before_it_is_decoded(tmp_path):
    whole = encoded("JPEG", progressive=True, size=(64, 64))
    last, end = whole.rindex(b"\xff\xda"), whole.rindex(b"\xff\xd9")
    scans = count_scans(write(tmp_path / "a.jpg", whole + b"\xff\xda" * 500), 100)  # a camera's video may follow
    assert 2 <= scans < 20
    bomb = whole[:last] + whole[last:end] * 400 + whole[end:]
    with pytest.raises(AgfasError, match="too many scans"):
        read_picture(write(tmp_path / "b.jpg", bomb))
    with pytest.raises(AgfasError, match="too many scans"):
        read_picture(write(tmp_path / "b.tif", _jpeg_in_tiff(bomb)))
    few = whole[:last] + whole[last:end] * 30 + whole[end:]
    assert read_picture(write(tmp_path / "c.jpg", few)).size == (64, 64)
    with pytest.raises(AgfasError, match=r"64 x 64 pixels in \d+ scans"):
        read_picture(tmp_path / "c.jpg", max_pixels=64 * 64)


def _jpeg_in_tiff(content: bytes) -> bytes:
    entries = [(256, 4, 1, 64), (257, 4, 1, 64), (258, 3, 1, 8), (259, 3, 1, 7), (262, 3, 1, 1), (273, 4, 1, 122)]
    return tiff(*entries, (277, 3, 1, 1), (278, 4, 1, 64), (279, 4, 1, len(content)), behind=content)


def test_tiles_of_a_heic_that_are_larger_than_its_picture_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(heif.options, "GRID_TILE_SIZE", 64)
    path = write(tmp_path / "a.heic", encoded("HEIF", size=(130, 130)))
    assert read_picture(path).size == (130, 130)
    with pytest.raises(AgfasError, match="tiles of together 192 x 192 pixels"):
        read_picture(path, max_pixels=130 * 130)


def test_heic_without_its_library_names_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "_heif", lambda: False)
    for name in ("IMG_1.HEIC", "IMG_1.jpg"):
        with pytest.raises(
            NotRead, match=r'a HEIC picture, which is not read. .*pip install "agfas\[heif\]"'
        ) as caught:
            read_picture(write(tmp_path / name, HEIC_BEGIN))
        assert caught.value.kind == "a HEIC picture"


# --- kinds ---

NAMED = {
    "JPEG": "jpg jpeg jpe jfif jfi jif pjpeg pjp mpo", "PNG": "png apng", "WEBP": "webp", "BMP": "bmp",
    "PPM": "pgm ppm pbm pnm", "GIF": "gif", "AVIF": "avif avifs", "HEIF": "heic heif heics heifs hif",
    "TIFF": "tif tiff",
}  # fmt: skip
FILMS = "mp4 mov m4v 3gp 3g2 qt f4v avi divx mkv webm mpg mpeg mpe vob m2v ts mts m2ts m2t flv wmv asf ogv"
NOT_READ = {
    "a camera raw picture": "dng nef nrw arw sr2 srf pef srw dcr kdc erf mef mos iiq 3fr fff gpr rwl cr2 cr3 crw raf"
    " orf rw2 x3f mrw",
    "a JPEG XR picture": "jxr wdp hdp", "a JPEG XL picture": "jxl", "a Photoshop document": "psd psb",
    "a JPEG 2000 picture": "jp2 j2k jpf jpx j2c jpc", "an OpenEXR picture": "exr", "a Radiance picture": "hdr",
    "an SVG drawing": "svg svgz", "a GIMP picture": "xcf", "a DICOM picture": "dcm dicom", "a Targa picture": "tga",
    "a DirectDraw picture": "dds", "a BPG, QOI or FLIF picture": "bpg qoi flif", "a RealMedia video": "rm rmvb",
    "an MXF video": "mxf", "a video without a container": "h264 264 h265 265 hevc dv mjpg mjpeg",
}  # fmt: skip


def test_every_ending_has_its_kind():
    for plugin, endings in NAMED.items():
        for ending in endings.split():
            kind = kind_named(Path(f"A.B.{ending.upper()}"))
            assert (kind.plugin, kind.medium, kind.is_read, kind.advice) == (plugin, "picture", True, "")
    assert set(SUFFIXES) == {f".{ending}" for endings in NAMED.values() for ending in endings.split()}
    for ending in FILMS.split():
        kind = kind_named(Path(f"a.{ending}"))
        assert (kind.plugin, kind.medium, kind.is_read) == ("", "video", True)
        assert is_video(Path(f"a.{ending.upper()}"))
    assert set(VIDEO_SUFFIXES) == {f".{ending}" for ending in FILMS.split()}
    for name, endings in NOT_READ.items():
        for ending in endings.split():
            kind = kind_named(Path(f"a.{ending}"))
            assert (kind.name, kind.is_read, kind.plugin) == (name, False, "")
            assert kind.medium == ("video" if "video" in name else "picture")
            advice = "Convert it with `ffmpeg -i FILE FILE.mp4`." if "video" in name else "Export it as JPEG or PNG."
            path = Path(f"x.{ending.upper()}")
            assert why_unread(kind, path) == f"is {name} (.{ending}), which is not read. {advice}"
    assert kind_named(Path("a.txt")) is kind_named(Path("jpg")) is None
    assert not is_video(Path("a.jpg"))
    assert not is_video(Path("mp4"))
    psd, png = kind_of(b"8BPS"), kind_of(b"\x89PNG\r\n\x1a\n")
    assert why_unread(psd, Path("a")) == (
        "is a Photoshop document (by its content), which is not read. Export it as JPEG or PNG."
    )
    assert why_unread(png, Path("a.x")) == "is a PNG picture by its content. Give it a name that ends in .png."


def test_the_first_400_bytes_tell_a_transport_stream(tmp_path):
    for packet, lead in ((188, b""), (192, b"\0\0\0\0")):
        content = lead + (b"G" + bytes(packet - 1)) * 5
        kind = kind_of(content[:HEAD])
        assert kind is not None
        assert kind.name == "an MPEG transport stream"
    path = write(tmp_path / "a", bytes(HEAD + 100))
    assert len(head_of(path)) == HEAD
    assert head_of(tmp_path / "gone") == b""


def test_companions_of_pictures_are_none(tmp_path):
    content = encoded("JPEG")
    for name in ("voice.M4A", "._IMG_1.dng", "Thumbs.db", "__MACOSX/a.jpg", "desktop.ini", ".DS_Store", "a.thm"):
        assert kind_beside(write(tmp_path / name, content)) is None
    assert kind_beside(write(tmp_path / "a.txt", b"text")) is None
    for name, kind in (("a.PSD", "a Photoshop document"), ("a.old", "a JPEG picture"), ("thumbs", "a JPEG picture")):
        assert kind_beside(write(tmp_path / name, content)).name == kind


# --- folders ----------------------------------------------------------------------------------------------------------


def test_no_two_kinds_share_a_name_and_each_beginning_is_its_own():
    names = [suffix for kind in KINDS for suffix in kind.suffixes]
    assert len(names) == len(set(names)) >= 100
    assert {".heic", ".heif", ".hif", ".avif", ".tif", ".tiff", ".gif", ".jfif", ".jpe", ".mpo"} <= set(SUFFIXES)
    assert {".3gp", ".mts", ".m2ts", ".ts", ".flv", ".mp4", ".mov"} <= set(VIDEO_SUFFIXES)
    for name, content in READ.items():
        kind = kind_of(content[:HEAD])
        assert kind is not None
        assert Path(name).suffix.lower() in kind.suffixes or "called" in name


def beside(folder: Path) -> None:
    """What phones and cameras leave beside pictures, and pictures under other names."""
    for name in ("IMG_1.AAE", "IMG_1.xmp", "Thumbs.db", "notes.txt", "._IMG_1.dng", "CLIP.THM", "voice.m4a"):
        write(folder / name, encoded("JPEG") if name.startswith(("._", "CLIP")) else b"companion")
    for name in ("IMG_2.dng", "IMG_3.NEF", "a.psd"):
        write(folder / name, b"any bytes")
    write(folder / "no-ending", encoded("PNG"))
    write(folder / "backup.jpg_old", encoded("JPEG"))


def test_pictures_that_no_importer_takes_are_refused_and_their_companions_passed_over(tmp_path):
    beside(tmp_path / "bonafide")
    write(tmp_path / "bonafide" / "a.png", encoded("PNG"))
    write(tmp_path / "attack" / "b.png", encoded("PNG"))
    write(tmp_path / "c.png", encoded("PNG"))
    sources = find_sources(tmp_path, build_recipe({}, "the test"))
    assert {line.path: line.reason for line in sources.unreadable} == {
        "bonafide/IMG_2.dng": "It is a camera raw picture (.dng), which is not read. Export it as JPEG or PNG.",
        "bonafide/IMG_3.NEF": "It is a camera raw picture (.nef), which is not read. Export it as JPEG or PNG.",
        "bonafide/a.psd": "It is a Photoshop document (.psd), which is not read. Export it as JPEG or PNG.",
        "bonafide/backup.jpg_old": "It is a JPEG picture by its content. Give it a name that ends in .jpg.",
        "bonafide/no-ending": "It is a PNG picture by its content. Give it a name that ends in .png.",
        "c.png": (
            "It is a PNG picture outside the folders of the classes, where all pictures and videos are expected."
            " Move it there."
        ),
    }
    assert len(sources.passed_over) == 7
    assert all("ignored by the importer" in why for _, why in sources.passed_over)


def test_the_terminal_names_the_most_frequent_kinds_that_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "_heif", lambda: False)
    refused = []
    for number in range(80):
        path = write(tmp_path / f"IMG_{number}.HEIC", HEIC_BEGIN)
        with pytest.raises(NotRead) as caught:
            read_picture(path)
        refused.append((str(path), str(caught.value)))
    (line,) = prepare.groups([*refused, *((str(tmp_path / f"{n}.png"), f"bad {n}") for n in range(3))])[:1]
    assert line.startswith("  80 pictures in .heic: is a HEIC picture, which is not read. ")
    assert "export it as JPEG" in line


def test_a_folder_without_a_readable_picture_names_what_is_there(tmp_path):
    for number in range(3):
        write(tmp_path / f"{number}.dng", b"any bytes")
    write(tmp_path / "0.psd", b"any bytes")
    with pytest.raises(AgfasError, match=r"3 of them: a camera raw picture, which is not read\. Export"):
        media_in(tmp_path)


def test_detect_refuses_by_kind_what_it_does_not_read(tmp_path):
    beside(tmp_path)
    found = find_media([tmp_path])
    refused = {
        medium.name for medium in found.media if "not read" in medium.refused or "by its content" in medium.refused
    }
    assert refused == {"IMG_2.dng", "IMG_3.NEF", "a.psd", "no-ending", "backup.jpg_old"}
    assert kind_beside(tmp_path / "CLIP.THM") is None
