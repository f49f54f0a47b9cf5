"""A folder of hostile files: everything that a picture collection may hold, and the required outcome of each.

The files are made here, byte by byte where no encoder would write them. `python tests/hostile.py FOLDER`
writes them; `docs/robustness.md` has the table of what `agfas prepare` does with them.
"""

from __future__ import annotations

import os
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hostile_bytes import (
    bmp_of_size,
    encode,
    flip,
    jpeg_of_scans,
    jpeg_of_size,
    orientation,
    picture,
    png_16_bit_colour,
    png_chunks,
    saved,
    sound_bytes,
    tiff,
    trimmed,
    video_bytes,
)
from PIL import Image

READ, REFUSED, PASSED_OVER = "read", "refused", "passed over"


@dataclass(frozen=True)
class Case:
    """One hostile file.

    Attributes:
        name: relative to the folder; the part before the first dot says what it is.
        outcome: `read`, `refused`, or `passed over` for links and for companions of pictures.
        reason: words that the reason of a refusal must contain; empty for the other outcomes.
        make: writes the file at a path.
    """

    name: str
    outcome: str
    reason: str
    make: Callable[[Path], None]


def write_corpus(folder: Path) -> list[Case]:
    """Write every hostile file below `folder`/bonafide, and one good picture in `folder`/attack.

    Returns:
        The cases that this system can hold: names and links that it refuses are left out.
    """
    (folder / "attack").mkdir(parents=True, exist_ok=True)
    (folder / "bonafide").mkdir(exist_ok=True)
    (folder / "attack" / "good.png").write_bytes(encode("PNG"))
    made = []
    for case in cases():
        path = folder / "bonafide" / case.name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            case.make(path)
        except OSError:
            continue
        made.append(case)
    return made


def cases() -> list[Case]:
    """All cases, good ones among them."""
    return [*_pictures(), *_formats(), *_broken(), *_bombs(), *_strangers(), *_names(), *_links(), *_videos()]


def _bytes(data: bytes) -> Callable[[Path], None]:
    return lambda path: _write(path, data)


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _good(name: str, data: bytes) -> Case:
    return Case(name, READ, "", _bytes(data))


def _bad(name: str, reason: str, data: bytes) -> Case:
    return Case(name, REFUSED, reason, _bytes(data))


def _pictures() -> list[Case]:
    """Sound files of every kind that is read."""
    wide = np.linspace(0, 65535, 96 * 96).reshape(96, 96).astype(np.uint16)
    frames = [picture(seed=seed) for seed in range(3)]
    return [
        _good("jpeg.jpg", encode("JPEG")),
        _good("jpeg-upper-case.JPG", encode("JPEG")),
        _good("jpeg-grey.jpg", encode("JPEG", "L")),
        _good("jpeg-cmyk.jpg", encode("JPEG", "CMYK")),
        _good("jpeg-progressive.jpeg", encode("JPEG", progressive=True)),
        _good("jpeg-quality-1.jpg", encode("JPEG", quality=1)),
        _good("jpeg-trailing-rubbish.jpg", encode("JPEG") + b"\0" * 999 + b"rubbish"),
        _good("jpeg-broken-exif.jpg", encode("JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")),
        _good("jpeg-broken-profile.jpg", encode("JPEG", icc_profile=b"not a colour profile")),
        *[_good(f"jpeg-exif-{turn}.jpg", encode("JPEG", exif=orientation(turn))) for turn in range(1, 9)],
        _good("jpeg-exif-99.jpg", encode("JPEG", exif=orientation(99))),
        _good("png.png", encode("PNG")),
        _good("png-alpha.png", encode("PNG", "RGBA")),
        _good("png-grey-alpha.png", encode("PNG", "LA")),
        _good("png-palette.png", encode("PNG", "P")),
        _good("png-palette-transparent.png", encode("PNG", "P", transparency=0)),
        _good("png-one-bit.png", encode("PNG", "1")),
        _good("png-16-bit-grey.png", saved(Image.fromarray(wide), "PNG")),
        _good("png-16-bit-colour.png", png_16_bit_colour()),
        _good("png-animated.png", saved(frames[0], "PNG", save_all=True, append_images=frames[1:])),
        _good("webp.webp", encode("WEBP")),
        _good("webp-lossless-alpha.webp", encode("WEBP", "RGBA", lossless=True)),
        _good("webp-animated.webp", saved(frames[0], "WEBP", save_all=True, append_images=frames[1:])),
        _good("bmp.bmp", encode("BMP")),
        _good("bmp-palette.bmp", encode("BMP", "P")),
        _good("bmp-one-bit.bmp", encode("BMP", "1")),
        _good("grey.pgm", encode("PPM", "L")),
        _good("colour.ppm", encode("PPM")),
        _good("jpeg-called.png", encode("JPEG")),
        _good("png-called.jpg", encode("PNG")),
    ]


def _formats() -> list[Case]:
    """What phones, cameras and scanners write besides."""
    frames = [picture(seed=seed) for seed in range(3)]
    wide = Image.fromarray(np.linspace(0, 65535, 96 * 96).reshape(96, 96).astype(np.uint16))
    more = {"save_all": True, "append_images": frames[1:]}
    return [
        _good("heic.heic", encode("HEIF")),
        _good("heic-called.jpg", encode("HEIF")),
        _good("heic-exif-6.heif", encode("HEIF", exif=orientation(6))),
        _bad("heic-cut.heic", "damaged HEIC", encode("HEIF")[:-99]),
        _bad("heic-begin.jpg", "damaged HEIC", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"),
        _good("avif.avif", encode("AVIF")),
        _good("avif-animated.avif", saved(frames[0], "AVIF", **more)),
        _bad("avif-cut.avif", "damaged AVIF", encode("AVIF")[:-99]),
        _good("tiff.tif", encode("TIFF")),
        _good("tiff-compressed.tiff", encode("TIFF", compression="tiff_lzw")),
        _good("tiff-cmyk.tif", encode("TIFF", "CMYK")),
        _good("tiff-16-bit.tif", saved(wide, "TIFF")),
        _good("tiff-pages.tif", saved(frames[0], "TIFF", **more)),
        _good("tiff-called.png", encode("TIFF")),
        _bad("tiff-float.tif", "floating-point", encode("TIFF", "F")),
        _bad("tiff-32-bit.tif", "32-bit", encode("TIFF", "I")),
        _bad("tiff-cut.tif", "damaged TIFF", encode("TIFF")[:5000]),
        _good("gif.gif", encode("GIF")),
        _good("gif-animated.gif", saved(frames[0], "GIF", **more)),
        _bad("gif-cut.gif", "damaged GIF", encode("GIF")[:2000]),
        _good("jpeg.jfif", encode("JPEG", seed=3)),
        _good("jpeg.jpe", encode("JPEG", seed=4)),
        _good("jpeg.mpo", saved(frames[0], "MPO", **more)),
        _bad("photo.dng", "a camera raw picture", tiff((50706, 1, 4, 1))),
        _bad("raw-called.jpg", "a camera raw picture", tiff((254, 4, 1, 1))),
        _bad("photo.nef", "a camera raw picture", b"MM\0*" + bytes(99)),
        _bad("photo.cr3", "a camera raw picture", b"\0\0\0\x18ftypcrx " + bytes(99)),
        _bad("photo.jxl", "a JPEG XL picture", b"\xff\x0a" + bytes(99)),
        _bad("jpeg-xl-called.jpg", "a JPEG XL picture", b"\xff\x0a" + bytes(99)),
        _bad("photo.jp2", "a JPEG 2000 picture", b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(99)),
        _bad("layers.psd", "a Photoshop document", b"8BPS\0\1" + bytes(99)),
        _bad("render.exr", "an OpenEXR picture", b"\x76\x2f\x31\x01" + bytes(99)),
        _bad("drawing.svg", "an SVG drawing", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
        _bad("jpeg-without-ending", "a name that ends in .jpg", encode("JPEG")),
        _bad("jpeg.jpg_old", "a name that ends in .jpg", encode("JPEG")),
    ]


def _broken() -> list[Case]:
    """Files that began as pictures."""
    jpeg, png, webp, bmp = encode("JPEG"), encode("PNG"), encode("WEBP"), encode("BMP")
    return [
        _bad("empty.jpg", "empty", b""),
        _bad("empty.png", "empty", b""),
        _bad("one-byte.jpg", "not a picture", b"\xff"),
        _bad("jpeg-header-only.jpg", "damaged", jpeg[:20]),
        *[_bad(f"jpeg-cut-at-{share}.jpg", "damaged", jpeg[: len(jpeg) * share // 100]) for share in (25, 60, 95)],
        *[_bad(f"png-cut-at-{share}.png", "damaged", png[: len(png) * share // 100]) for share in (1, 50, 90)],
        _bad("png-header-checksum.png", "damaged", flip(png, 29)),
        _bad("png-pixel-rubbish.png", "damaged", png_chunks((b"IDAT", b"this is no zlib stream"))),
        _bad("png-without-pixels.png", "damaged", png_chunks()),
        _bad("png-zero-wide.png", "damaged", png_chunks(size=(0, 96))),
        _bad("webp-cut.webp", "damaged", webp[: len(webp) // 2]),
        _bad("bmp-cut.bmp", "damaged", bmp[: len(bmp) // 2]),
        _bad("pgm-cut.pgm", "damaged", encode("PPM", "L")[:99]),
        _bad("zeros.jpg", "not a picture", b"\0" * 5000),
        _bad("noise.png", "not a picture", np.random.default_rng(0).bytes(5000)),
    ]


def _bombs() -> list[Case]:
    """Small files that want much memory."""
    text = b"Comment\0\0" + zlib.compress(b"A" * 50_000_000)
    return [
        _bad(
            "bomb-60000-square.png",
            "million",
            png_chunks((b"IDAT", zlib.compress(b"\0" * 10_000)), size=(60_000, 60_000)),
        ),
        _bad(
            "bomb-9434-square.png", "million", png_chunks((b"IDAT", zlib.compress(b"\0" * 10_000)), size=(9434, 9434))
        ),
        _bad("bomb-65000-square.jpg", "million", jpeg_of_size(65_000, 65_000)),
        _bad("bomb-text.png", "damaged", png_chunks((b"zTXt", text), (b"IDAT", zlib.compress(b"\0" * 100)))),
        _bad("bomb-99999-square.pgm", "million", b"P5 99999 99999 255\n" + b"\0" * 99),
        _bad("bomb-40000-square.bmp", "million", bmp_of_size(40_000, 40_000)),
        _bad("bomb-80-million-wide.bmp", "sides", bmp_of_size(80_000_000, 1)),
        _bad("bomb-400-scans.jpg", "scans", jpeg_of_scans(400)),
        _bad("bomb-of-tags.tif", "larger than the file", tiff((40_000, 1, 5_000_000, 8))),
        _bad("bomb-of-strips.tif", "pieces", tiff(pieces=200_000)),
        _bad("bomb-of-a-tile.tif", "million", tiff((322, 4, 1, 60_000), (323, 4, 1, 60_000))),
        _bad("bomb-65535-square.gif", "million", b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\1\0\1\0\0\2\2\x44\1\0;"),
    ]


def _strangers() -> list[Case]:
    """Other kinds of files behind a picture's name, and files that no name makes a picture."""
    return [
        _bad("text.jpg", "not a picture", b"I am a text.\n"),
        _bad("page.png", "not a picture", b"<html><body>404</body></html>"),
        _bad("vector.jpg", "an SVG drawing", b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>"),
        _bad("zip.jpg", "not a picture", b"PK\x03\x04" + b"\0" * 200),
        _good("gif-called.jpg", encode("GIF", "P")),
        _bad("video-called.jpg", "not a picture", video_bytes(frames=1)),
        _bad("postscript-called.png", "not a picture", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"),
        Case("notes.txt", PASSED_OVER, "", _bytes(b"notes")),
        Case("Thumbs.db", PASSED_OVER, "", _bytes(b"\0" * 100)),
        Case("IMG_1.AAE", PASSED_OVER, "", _bytes(b"<?xml version='1.0'?><plist/>")),
        Case("IMG_1.xmp", PASSED_OVER, "", _bytes(b"<x:xmpmeta/>")),
        Case("._IMG_1.jpg", PASSED_OVER, "", _bytes(b"\0\5\x16\7" + bytes(99))),
        Case("CLIP_1.THM", PASSED_OVER, "", _bytes(encode("JPEG"))),
        Case("folder.jpg/inside.png", READ, "", _bytes(encode("PNG", seed=1))),
        Case("pipe.jpg", REFUSED, "not a regular file", os.mkfifo),
    ]


def _names() -> list[Case]:
    """Sound pictures under names that break scripts."""
    names = [
        "with space.png", "a..b.png", "..hidden-by-dots.png", "-rf.png", "semi;colon.png", "quote'\".png",
        "per%20cent.png", "new\nline.png", "tab\t.png", "back\\slash.png", "ümläut-日本語-🙂.png", "x" * 240 + ".png",
        "comma,.png", "$HOME.png", "star*.png",
    ]  # fmt: skip
    found = [_good(name, encode("PNG", seed=number + 10)) for number, name in enumerate(names)]
    return [*found, Case(".hidden.png", READ, "", _bytes(encode("PNG", seed=30))), _not_unicode()]


def _not_unicode() -> Case:
    def make(path: Path) -> None:
        _write(Path(os.fsdecode(os.fsencode(path.parent) + b"/latin-\xe9.png")), encode("PNG", seed=31))

    return Case(os.fsdecode(b"latin-\xe9.png"), READ, "", make)


def _links() -> list[Case]:
    def link_to(target: str) -> Callable[[Path], None]:
        return lambda path: _link(path, target)

    return [
        Case("link-to-picture.png", PASSED_OVER, "", link_to("png.png")),
        Case("link-to-nothing.png", PASSED_OVER, "", link_to("nowhere.png")),
        Case("link-to-itself.png", PASSED_OVER, "", link_to("link-to-itself.png")),
        Case("link-outside.png", PASSED_OVER, "", link_to("/etc/hostname")),
        Case("loop", PASSED_OVER, "", link_to("..")),
    ]


def _link(path: Path, target: str) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def _videos() -> list[Case]:
    return [
        _bad("empty.mp4", "empty", b""),
        _bad("text.mp4", "video", b"I am a text, not a video.\n"),
        _bad("picture-called.avi", "video", encode("PNG")[:50]),
        Case("cut.mp4", REFUSED, "cut short", lambda path: _write(path, video_bytes()[:300])),
        Case("cut-at-90.mkv", READ, "", lambda path: cut(path, video_bytes(30, "matroska"), 90)),
        Case("cut-at-40.mkv", REFUSED, "fewer than half", lambda path: cut(path, video_bytes(30, "matroska"), 40)),
        Case("trimmed.mp4", READ, "", trimmed),
        Case("title-in-latin-1.mp4", READ, "", lambda path: _write(path, video_bytes(title=b"\xe9\xff\xfe\xe8"))),
        Case("phone.3gp", READ, "", lambda path: _write(path, video_bytes(12, "3gp"))),
        Case("camcorder.mts", READ, "", lambda path: _write(path, video_bytes(12, "mpegts"))),
        Case("stream.flv", READ, "", lambda path: _write(path, video_bytes(12, "flv", "flv1"))),
        Case("video.rm", REFUSED, "a RealMedia video", _bytes(b".RMF" + bytes(99))),
        Case("voice.m4a", PASSED_OVER, "", lambda path: _write(path, sound_bytes())),
        Case("sound-only.mp4", REFUSED, "no video stream", lambda path: _write(path, sound_bytes())),
        Case("one-frame.mp4", READ, "", lambda path: _write(path, video_bytes(frames=1))),
        Case("video.mp4", READ, "", lambda path: _write(path, video_bytes(frames=12))),
    ]


def cut(path: Path, data: bytes, percent: int) -> None:
    _write(path, data[: len(data) * percent // 100])


if __name__ == "__main__":
    written = write_corpus(Path(sys.argv[1]))
    print(f"{len(written)} hostile files in {sys.argv[1]}")
