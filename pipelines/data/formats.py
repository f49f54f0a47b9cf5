"""The kinds of files that people keep pictures and videos in: how each is known, and what becomes of it.

One table decides for every path: which names an importer takes, which library reads them, and what is said of a kind
that is not read. The content decides over the name wherever a file is opened.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePath

from pipelines.data.held import File

PICTURE, VIDEO = "picture", "video"
# Bytes that `kind_of` looks at: MPEG transport streams repeat their mark every 188 or 192 bytes.
HEAD = 400
_EXPORT = "Export it as JPEG or PNG."
_TO_MP4 = "Convert it with `ffmpeg -i FILE FILE.mp4`."


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    Attributes:
        name: with its article, such as `a JPEG picture`.
        medium: `PICTURE` or `VIDEO`.
        suffixes: endings of its names, in lower case; the first is the usual one.
        beginning: regular expression of its first bytes; empty if they do not tell.
        plugin: of Pillow, which reads it; empty for a video, and for a picture that is not read.
        advice: what to do with it, if it is not read.
    """

    name: str
    medium: str
    suffixes: tuple[str, ...]
    beginning: bytes = b""
    plugin: str = ""
    advice: str = ""

    @property
    def is_read(self) -> bool:
        """Whether its files are sources; of HEIC, also without the library, so that each is refused by name."""
        return not self.advice


def _read(name: str, plugin: str, suffixes: str, beginning: bytes) -> Kind:
    return Kind(name, PICTURE, _endings(suffixes), beginning, plugin)


def _video(name: str, suffixes: str, beginning: bytes = b"") -> Kind:
    return Kind(name, VIDEO, _endings(suffixes), beginning)


def _unread(name: str, suffixes: str, beginning: bytes = b"", medium: str = PICTURE, advice: str = _EXPORT) -> Kind:
    return Kind(name, medium, _endings(suffixes), beginning, advice=advice)


def _endings(names: str) -> tuple[str, ...]:
    return tuple(f".{name}" for name in names.split())


_HEIF_BRAND = rb"(?:hei[cxms]|hev[cxms])"
_RAW = "a camera raw picture"
# The first kind whose beginning matches counts.
KINDS = (
    _read("a JPEG picture", "JPEG", "jpg jpeg jpe jfif jfi jif pjpeg pjp mpo", rb"\xff\xd8\xff"),
    _read("a PNG picture", "PNG", "png apng", rb"\x89PNG\r\n\x1a\n"),
    _read("a WebP picture", "WEBP", "webp", rb"RIFF.{4}WEBP"),
    _read("a BMP picture", "BMP", "bmp", rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0"),
    _read("a PGM or PPM picture", "PPM", "pgm ppm pbm pnm", rb"P[1-6](?:\s+|#[^\n]*\n)+\d"),
    _read("a GIF picture", "GIF", "gif", rb"GIF8[79]a"),
    _read("an AVIF picture", "AVIF", "avif avifs", rb".{4}ftyp(?:avi[fs]|m[is]f1.{4}(?:.{4}){0,9}?avi[fs])"),
    _read("a HEIC picture", "HEIF", "heic heif heics heifs hif", rb".{4}ftyp(?:" + _HEIF_BRAND + rb"|m[is]f1)"),
    _unread(_RAW, "dng nef nrw arw sr2 srf pef srw dcr kdc erf mef mos iiq 3fr fff gpr rwl"),  # like a TIFF: `images`
    _unread(_RAW, "cr2", rb"(?:II\*\0|MM\0\*).{4}CR"),
    _unread(_RAW, "cr3", rb".{4}ftypcrx "),
    _unread(_RAW, "crw", rb"II.{4}HEAPCCDR"),
    _unread(_RAW, "raf", rb"FUJIFILMCCD-RAW"),
    _unread(_RAW, "orf", rb"IIR[OS]|MMOR"),
    _unread(_RAW, "rw2", rb"IIU\0"),
    _unread(_RAW, "x3f", rb"FOVb"),
    _unread(_RAW, "mrw", rb"\0MRM"),
    _unread("a JPEG XR picture", "jxr wdp hdp", rb"II\xbc"),
    _read("a TIFF picture", "TIFF", "tif tiff", rb"II[*+]\0|MM\0[*+]"),
    _unread("a JPEG XL picture", "jxl", rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n"),
    _unread("a JPEG 2000 picture", "jp2 j2k jpf jpx j2c jpc", rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"),
    _unread("a Photoshop document", "psd psb", rb"8BPS"),
    _unread("an OpenEXR picture", "exr", rb"\x76\x2f\x31\x01"),
    _unread("a Radiance picture", "hdr", rb"#\?R(?:ADIANCE|GBE)"),
    _unread("an SVG drawing", "svg svgz", rb"\s*(?:<\?xml.*?)?<svg[\s>]"),
    _unread("a GIMP picture", "xcf", rb"gimp xcf"),
    _unread("a DICOM picture", "dcm dicom", rb".{128}DICM"),
    _unread("a Targa picture", "tga"),
    _unread("a DirectDraw picture", "dds", rb"DDS \|"),
    _unread("a BPG, QOI or FLIF picture", "bpg qoi flif", rb"BPG\xfb|qoif|FLIF"),
    # Sound and e-books in the containers of videos are none.
    _video("an MP4 or QuickTime video", "mp4 mov m4v 3gp 3g2 qt f4v", rb".{4}(?:ftyp(?!M4[ABP])|moov|mdat|wide)"),
    _video("an AVI video", "avi divx", rb"RIFF.{4}AVI "),
    _video("a Matroska or WebM video", "mkv webm", rb"\x1a\x45\xdf\xa3"),
    _video("an MPEG video", "mpg mpeg mpe vob m2v", rb"\0\0\x01[\xba\xb3]"),
    _video("an MPEG transport stream", "ts mts m2ts m2t", rb"G.{187}G.{187}G|.{4}G.{191}G.{191}G"),
    _video("a Flash video", "flv", rb"FLV\x01"),
    _video("a Windows Media video", "wmv asf", rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
    _video("an Ogg video", "ogv", rb"OggS"),
    _unread("a RealMedia video", "rm rmvb", rb"\.RMF", VIDEO, _TO_MP4),
    _unread("an MXF video", "mxf", rb"\x06\x0e\x2b\x34\x02\x05\x01\x01", VIDEO, _TO_MP4),
    _unread("a video without a container", "h264 264 h265 265 hevc dv mjpg mjpeg", b"", VIDEO, _TO_MP4),
)  # fmt: skip

SUFFIXES = tuple(suffix for kind in KINDS if kind.is_read and kind.medium == PICTURE for suffix in kind.suffixes)
VIDEO_SUFFIXES = tuple(suffix for kind in KINDS if kind.is_read and kind.medium == VIDEO for suffix in kind.suffixes)
_BY_SUFFIX = {suffix: kind for kind in KINDS for suffix in kind.suffixes}
_BEGINNINGS = [(re.compile(kind.beginning, re.DOTALL), kind) for kind in KINDS if kind.beginning]
# What macOS and Windows add to folders and archives; none is a picture, whatever its ending.
_OF_THE_SYSTEM = ("__macosx", ".ds_store", "thumbs.db", "desktop.ini")
# Beside pictures and videos, and sometimes made like them: previews of cameras, and sound.
_BESIDE = frozenset(_endings("thm lrv m4a m4b aac mp3 wav flac ogg oga opus wma amr caf mka"))


def kind_of(head: bytes) -> Kind | None:
    """The kind of a file by its first `HEAD` bytes; None if they are those of no picture and no video."""
    return next((kind for beginning, kind in _BEGINNINGS if beginning.match(head)), None)


def kind_named(path: PurePath) -> Kind | None:
    """The kind of a file by its name."""
    return _BY_SUFFIX.get(path.suffix.lower())


def kind_beside(path: Path) -> Kind | None:
    """The kind of a file that no importer took: by its name, or else by its first bytes.

    Returns:
        None for what is no picture and no video, and for companions of one: what systems add, previews, sound.
    """
    suffix = path.suffix.lower()
    if suffix in _BESIDE or any(map(is_of_the_system, path.parts)):
        return None
    return _BY_SUFFIX.get(suffix) or kind_of(head_of(path))


def is_of_the_system(name: str) -> bool:
    """Whether an entry of a folder was made by macOS or Windows: `__MACOSX`, `._NAME`, `.DS_Store`, `Thumbs.db`, ..."""
    return name.startswith("._") or name.lower() in _OF_THE_SYSTEM


def head_of(path: File) -> bytes:
    """The first bytes of a file; none of one that cannot be read."""
    try:
        with path.open("rb") as stream:
            return stream.read(HEAD)
    except OSError:
        return b""


def is_video(path: Path) -> bool:
    """Whether a file is a video by its name."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def why_unread(kind: Kind, path: Path) -> str:
    """Why a file that no importer took is not read, as the end of a sentence that begins with its name."""
    if kind.advice:
        return f"is {kind.name} ({path.suffix.lower() or 'by its content'}), which is not read. {kind.advice}"
    return f"is {kind.name} by its content. Give it a name that ends in {kind.suffixes[0]}."
