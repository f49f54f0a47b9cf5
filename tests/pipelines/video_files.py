"""Videos for tests: frames are known by the number that is drawn into them."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

WIDTH, HEIGHT = 64, 48
BITS = 8


def draw(number: int) -> np.ndarray:
    """A frame with its number as eight bars, light for 1 and dark for 0, and a bright left top corner."""
    frame = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
    for bit in range(BITS):
        frame[24:, bit * 8 : bit * 8 + 8] = 230 if number >> bit & 1 else 20
    frame[:16, :24] = 255
    return frame


def number_of(frame: np.ndarray) -> int:
    return sum((int(frame[36, bit * 8 + 4].mean()) > 128) << bit for bit in range(BITS))


def noise(number: int) -> np.ndarray:
    """As `draw`, and every frame takes about as many bytes as the others."""
    frame = draw(number)
    frame[:16, 24:] = np.random.default_rng(number).integers(0, 255, (16, WIDTH - 24, 3), dtype=np.uint8)
    return frame


def write_video(
    path: Path, count: int = 30, codec: str = "libx264", gop: int = 12, rate: int = 25, picture=draw, **options
) -> Path:
    import av

    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = WIDTH, HEIGHT
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.gop_size = gop
        for number in range(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), format="rgb24")))
        container.mux(stream.encode())
    return path


def write_sound(path: Path) -> Path:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def turn(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Set a, b, c, d of an MP4's display matrix: x' = a x + c y, y' = b x + d y."""
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (value << 16 for value in matrix)
    data[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(bytes(data))
    return path
