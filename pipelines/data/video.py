"""Frames of a video by number, upright, as RGB; only the requested ones are held in memory."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.data.images import check_file, check_size
from pipelines.errors import AgfasError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# Video containers only: FFmpeg also opens playlists, which refer to other files and addresses.
_CONTAINERS = "mov,mp4,3gp,avi,matroska,webm,mpeg,mpegvideo,mpegts,asf,flv,ogg"
_ALLOWED = "Allowed are MP4, MOV, AVI, MKV, WebM, MPEG and WMV files with a video stream."
# After a seek, frames displayed just before a key frame may lack their references. They are closer to it than this.
_MARGIN = 16


def frame_indices(count: int, frames: int = 10) -> list[int]:
    """Frames of a video, uniform in time and in its order.

    Divides the video into `frames` equal parts and takes the middle of each, frame floor((i + 1/2) count / frames):
    evenly spaced in time for a constant frame rate, and never the very first or last frames, which often show a hand
    at the camera. A shorter video gives all its frames.

    Args:
        count: frames of the video.
        frames: number of frames to keep.

    Raises:
        AgfasError: fewer than one frame.
    """
    if count < 1 or frames < 1:
        raise AgfasError(f"frames must be at least 1, of a video with at least 1 frame; got {frames} of {count}.")
    kept = min(count, frames)
    return [(2 * place + 1) * count // (2 * kept) for place in range(kept)]


@dataclass(frozen=True)
class VideoFile:
    """A video file whose metadata was read; `read` opens the file again.

    Attributes:
        path: of the file.
        count: frames, from the container or else counted by decoding.
        fps: average frames per second; 0 if unknown.
        start: time stamp of the first frame, in the stream's time base.
    """

    path: Path
    count: int
    fps: float
    start: int | None

    def read(self, indices: Sequence[int]) -> dict[int, np.ndarray]:
        """Frames by number from 0, each (H, W, 3) uint8 RGB, rotated and mirrored by the file's display matrix.

        Memory holds the requested frames and one more. If the container lists its key frames and the frame rate is
        constant, parts without a requested frame are skipped by seeking; otherwise the video is decoded up to the last
        requested frame. Both give the same pictures. Non-square pixels are not resampled.

        Raises:
            AgfasError: the file is damaged or truncated before a requested frame.
            ValueError: a number below 0, or not below `count`.
        """
        wanted = sorted(set(indices))
        if wanted and not 0 <= wanted[0] <= wanted[-1] < self.count:
            raise ValueError(f"{self.path} has frames 0 to {self.count - 1}; requested {wanted[0]} to {wanted[-1]}.")
        found = self._by_jumps(wanted) if wanted else {}
        missing = [index for index in wanted if index not in found]
        return found | self._in_order(missing) if missing else found

    def _in_order(self, wanted: list[int]) -> dict[int, np.ndarray]:
        found: dict[int, np.ndarray] = {}
        with _opened(self.path) as (container, stream):
            number, kept = -1, set(wanted)
            for number, frame in enumerate(_decoded(container, stream, self.path)):
                if number in kept:
                    found[number] = _upright(frame)
                if number == wanted[-1]:
                    return found
        raise AgfasError(
            f"{self.path} is truncated: of {self.count} frames, {number + 1} can be decoded. Copy or export it again."
        )

    def _by_jumps(self, wanted: list[int]) -> dict[int, np.ndarray]:
        """The frames that seeking reaches; stops as soon as frame numbers do not follow from time stamps."""
        found: dict[int, np.ndarray] = {}
        with _opened(self.path) as (container, stream):
            clock = _Clock.of(stream, self.start)
            if clock is None:
                return found
            place, frames = -1, container.decode(stream)
            for index in wanted:
                if clock.key_frame_before(index - _MARGIN) > place + _MARGIN:
                    container.seek(clock.time(index - _MARGIN), stream=stream)
                    frames = container.decode(stream)
                frame = _reach(frames, clock, index)
                if frame is None:
                    return found
                place, found[index] = index, _upright(frame)
        return found


def open_video(path: Path) -> VideoFile:
    """Open a video file, decode its first frame and count the others.

    The content decides the format, not the name. Files and addresses that it refers to are never opened.

    Raises:
        AgfasError: no file, an empty or damaged file, another format, too large frames, or no frame.
    """
    check_file(path, "video")
    with _opened(path) as (container, stream):
        frames = _decoded(container, stream, path)
        first = next(frames, None)
        if first is None:
            raise AgfasError(f"{path} has no frame that can be decoded. Copy or export it again.")
        check_size(path, (first.width, first.height), "frames of ")
        count = stream.frames or 1 + sum(1 for _ in frames)
        rate = stream.average_rate
        return VideoFile(path, count, float(rate) if rate else 0.0, first.pts)


@dataclass(frozen=True)
class _Clock:
    """Frame numbers to time stamps and back, at a constant frame rate, in the stream's time base."""

    start: int
    step: float
    key_frames: list[int]

    @classmethod
    def of(cls, stream: VideoStream, start: int | None) -> _Clock | None:
        """None if the rate is unknown or not constant, or no key frames are listed."""
        rate = stream.average_rate
        entries: Any = getattr(stream, "index_entries", ())
        if not rate or rate != stream.base_rate or not stream.time_base or start is None or not len(entries):
            return None
        step = float(1 / (rate * stream.time_base))
        origin = entries[0].timestamp
        keys = [round((entry.timestamp - origin) / step) for entry in entries if entry.is_keyframe]
        return cls(start, step, sorted(keys))

    def key_frame_before(self, number: int) -> int:
        """The number of the last key frame up to `number`; -1 if there is none."""
        place = bisect.bisect_right(self.key_frames, number)
        return self.key_frames[place - 1] if place else -1

    def time(self, number: int) -> int:
        return self.start + round(number * self.step)

    def number(self, time: int | None) -> int | None:
        """None for a time that is not a whole number of steps from the start."""
        if time is None:
            return None
        exact = (time - self.start) / self.step
        return round(exact) if abs(exact - round(exact)) < 0.1 else None


def _reach(frames: Iterator[VideoFrame], clock: _Clock, index: int) -> VideoFrame | None:
    """Decode up to a frame; None if it is skipped, damaged or without a number."""
    import av

    try:
        for frame in frames:
            number = clock.number(frame.pts)
            if number is None or number > index or frame.is_corrupt:
                return None
            if number == index:
                return frame
    except av.FFmpegError:
        return None
    return None


@contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    import av

    options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
    try:
        container = av.open(f"file:{path}", options=options)
    except (av.FFmpegError, OSError) as error:
        raise AgfasError(f"{path} is not a video that can be read ({_reason(error)}). {_ALLOWED}") from error
    with container:
        # An audio file may have its cover as a video stream.
        pictures = [s for s in container.streams.video if not s.disposition & type(s.disposition).attached_pic]
        if not pictures:
            kinds = ", ".join(sorted({stream.type for stream in islice(container.streams, 8)})) or "nothing"
            raise AgfasError(f"{path} has no video stream, only {kinds}. {_ALLOWED}")
        stream = pictures[0]
        if stream.codec_context is None:
            raise AgfasError(f"{path} has an unknown codec. Export it as MP4 with H.264.")
        check_size(path, (stream.codec_context.width, stream.codec_context.height), "frames of ")
        # Videos are decoded in parallel processes; threads within one would only add memory.
        stream.codec_context.thread_count = 1
        yield container, stream


def _decoded(container: InputContainer, stream: VideoStream, path: Path) -> Iterator[VideoFrame]:
    """All frames in the order of time."""
    import av

    number = 0
    try:
        for frame in container.decode(stream):
            yield frame
            number += 1
    except (av.FFmpegError, OSError) as error:
        raise AgfasError(
            f"{path} is a damaged video: frame {number} cannot be decoded ({_reason(error)}). Copy or export it again."
        ) from error


def _upright(frame: VideoFrame) -> np.ndarray:
    """A frame as RGB, by its display matrix (x' = a x + c y, y' = b x + d y) in quarter turns and reflections."""
    from av.sidedata.sidedata import Type

    picture = frame.to_ndarray(format="rgb24")
    side_data: Any = frame.side_data  # a mapping by type, while its stub says by name
    data = side_data.get(Type.DISPLAYMATRIX)
    if data is None:
        return picture
    a, b, _, c, d = np.frombuffer(bytes(data), dtype=np.int32, count=5).tolist()
    if abs(a) + abs(d) < abs(b) + abs(c):
        picture, a, d = picture.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).split(":")[0]
