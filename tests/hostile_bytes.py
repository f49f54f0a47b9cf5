"""Bytes of pictures, videos and sound, whole and in ways that no encoder would write."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pillow_heif
from PIL import Image

pillow_heif.register_heif_opener()


def picture(mode: str = "RGB", size: tuple[int, int] = (96, 96), seed: int = 0) -> Image.Image:
    """A smooth coloured picture."""
    coarse = np.random.default_rng(seed).integers(40, 216, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).convert(mode)


def encode(format_name: str, mode: str = "RGB", seed: int = 0, **options: object) -> bytes:
    """A picture's bytes in one of Pillow's formats."""
    stream = io.BytesIO()
    picture(mode, seed=seed).save(stream, format_name, **options)
    return stream.getvalue()


def tiff(*extra: tuple[int, int, int, int], pieces: int = 1) -> bytes:
    """4 x 4 black pixels and further tags, each as its number, type, count and value; `pieces` strips of them."""
    place = 8 + 2 + 12 * (9 + len(extra)) + 4
    entries = [(256, 4, 1, 4), (257, 4, 1, 4), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, pieces, place)]
    entries = sorted([*entries, (277, 3, 1, 1), (278, 4, 1, 4), (279, 4, 1, 16), *extra])
    body = b"".join(struct.pack("<HHLL", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<LH", 8, len(entries)) + body + bytes(4 + 16 + 4 * (pieces - 1))


def jpeg_of_scans(scans: int) -> bytes:
    """A progressive JPEG that sends its last scan again and again."""
    data = encode("JPEG", progressive=True)
    last, end = data.rindex(b"\xff\xda"), data.rindex(b"\xff\xd9")
    return data[:last] + data[last:end] * scans + data[end:]


def orientation(turn: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = turn
    return exif.tobytes()


def saved(image: Image.Image, format_name: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format_name, **options)
    return stream.getvalue()


def flip(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def png_chunks(
    *chunks: tuple[bytes, bytes], size: tuple[int, int] = (96, 96), depth: int = 8, colour: int = 2
) -> bytes:
    """A PNG of the given chunks between its header and its end, all checksums right."""
    header = (b"IHDR", struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0))
    body = b"".join(_chunk(*chunk) for chunk in (header, *chunks, (b"IEND", b"")))
    return b"\x89PNG\r\n\x1a\n" + body


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_16_bit_colour() -> bytes:
    """What Pillow reads and does not write: 16 bits a channel."""
    rows = np.random.default_rng(2).integers(0, 65536, (96, 96 * 3)).astype(">u2")
    data = b"".join(b"\0" + row.tobytes() for row in rows)
    return png_chunks((b"IDAT", zlib.compress(data)), depth=16)


def jpeg_of_size(width: int, height: int) -> bytes:
    """A JPEG whose frame header says that it is larger than it is."""
    data = encode("JPEG")
    place = data.index(b"\xff\xc0") + 5
    return data[:place] + struct.pack(">HH", height, width) + data[place + 4 :]


def bmp_of_size(width: int, height: int) -> bytes:
    data = encode("BMP")
    return data[:18] + struct.pack("<ii", width, height) + data[26:]


def video_bytes(frames: int = 8, container_name: str = "mp4", codec: str = "mpeg4", title: bytes = b"") -> bytes:
    """A small video of moving pictures."""
    import av

    stream = io.BytesIO()
    with av.open(stream, "w", format=container_name) as container:
        container.metadata["title"] = "T" * len(title)
        track = container.add_stream(codec, rate=10)
        track.width, track.height, track.pix_fmt = 96, 96, "yuv420p"
        for number in range(frames):
            frame = av.VideoFrame.from_image(picture(seed=number))
            container.mux(track.encode(frame))
        container.mux(track.encode())
    return stream.getvalue().replace(b"T" * len(title), title) if title else stream.getvalue()


def trimmed(path: Path) -> None:
    """A video whose first half an edit list hides, as trimming on a phone leaves it."""
    import av

    with av.open(io.BytesIO(video_bytes(24))) as whole, av.open(str(path), "w") as out:
        source = whole.streams.video[0]
        stream = out.add_stream_from_template(source)
        shift = source.duration // 2
        for packet in whole.demux(source):
            if packet.dts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, stream
                out.mux(packet)


def sound_bytes() -> bytes:
    """An MP4 file without pictures."""
    import av

    stream = io.BytesIO()
    with av.open(stream, "w", format="mp4") as container:
        track = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(track.encode(frame))
        container.mux(track.encode())
    return stream.getvalue()
