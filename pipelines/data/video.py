"""Frames of a video by number, upright, as RGB; only the requested ones are held in memory."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.data.containers import Decoding, count_frames, is_listed, opened, picture_streams
from pipelines.data.held import File
from pipelines.data.images import check_file, check_size
from pipelines.errors import AgfasError

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

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
        count: frames that a player shows.
        fps: average frames per second; 0 if unknown.
        start: time stamp of the first frame, in the stream's time base.
        listed: whether `count` is from the container, and numbers follow from time stamps; else frames were counted by
            decoding.
        note: what is to be said of the file, such as frames that it lost; empty if nothing.
    """

    path: File
    count: int
    fps: float
    start: int | None
    listed: bool
    note: str = ""

    def read(self, indices: Sequence[int]) -> dict[int, np.ndarray]:
        """Frames by number from 0, each (H, W, 3) uint8 RGB, rotated and mirrored by the file's display matrix.

        Memory holds the requested frames and one more. If the container lists its frames and their rate is constant,
        parts without a requested frame are skipped by seeking; otherwise the video is decoded up to the last requested
        frame. Both give the same pictures. Non-square pixels are not resampled.

        Raises:
            Miscounted: the file lists frames that cannot be decoded.
            AgfasError: the file has changed or cannot be read.
            ValueError: a number below 0, or not below `count`.
        """
        wanted = sorted(set(indices))
        if wanted and not 0 <= wanted[0] <= wanted[-1] < self.count:
            raise ValueError(f"{self.path} has frames 0 to {self.count - 1}; requested {wanted[0]} to {wanted[-1]}.")
        found = self._by_jumps(wanted) if self.listed and wanted else {}
        return found if len(found) == len(wanted) else self._in_order(wanted)

    def _in_order(self, wanted: list[int]) -> dict[int, np.ndarray]:
        found: dict[int, np.ndarray] = {}
        with opened(self.path) as (container, stream):
            number, kept, decoding = -1, set(wanted), Decoding(container, stream)
            for number, frame in enumerate(decoding):
                if number in kept:
                    found[number] = upright(frame)
                if number == wanted[-1] and not (self.listed and decoding.lost):
                    return found
        raise Miscounted(f"{self.path} is damaged or cut short: of {self.count} frames, {number + 1} can be decoded.")

    def _by_jumps(self, wanted: list[int]) -> dict[int, np.ndarray]:
        """The frames that seeking reaches; stops as soon as frame numbers do not follow from time stamps."""
        found: dict[int, np.ndarray] = {}
        with opened(self.path) as (container, stream):
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
                place, found[index] = index, upright(frame)
        return found


class Miscounted(AgfasError):
    """A video lists more frames than can be decoded."""


def open_video(path: File) -> VideoFile:
    """Open a video file, decode its first frame and count the others, by decoding unless its container lists them.

    The content decides the format, not the name. Files and addresses that it refers to are never opened.

    Raises:
        AgfasError: no file, an empty or damaged file, another format, too large frames, no frame, or fewer than half
            of the frames that it promises.
    """
    check_file(path, "video")
    with opened(path) as (container, stream):
        listed = is_listed(stream, path)
        decoding = Decoding(container, stream)
        first = next(iter(decoding), None)
        if first is None:
            raise AgfasError(f"{path} has no frame that can be decoded. Copy or export it again.")
        check_size(path, (first.width, first.height), "frames of ")
        streams = len(picture_streams(container))
        note = f"it has {streams} video streams; one is read" if streams > 1 else ""
        video = VideoFile(path, stream.frames, float(stream.average_rate or 0), first.pts, True, note)
        listed = listed and not decoding.lost
    return video if listed else _counted(video)


def _counted(video: VideoFile) -> VideoFile:
    """The same video, counted by decoding."""
    found = count_frames(video.path)
    if 2 * found.count < found.promised:
        raise AgfasError(
            f"{video.path} is damaged or cut short: of {found.promised} frames, {found.count} can be decoded, fewer"
            " than half. Copy or export it again."
        )
    lost = f"it is damaged or cut short; of {found.promised} frames, {found.count} can be decoded"
    notes = [video.note, lost if found.count < found.promised else ""]
    return replace(video, count=found.count, fps=found.fps, listed=False, note="; ".join(filter(None, notes)))


def read_chosen(path: File, choose: Callable[[int], Sequence[int]]) -> tuple[VideoFile, dict[int, np.ndarray]]:
    """The frames of a video that a rule chooses by their number.

    Args:
        path: of the file.
        choose: from the number of frames to the wanted ones.

    Raises:
        AgfasError: of `open_video`.
    """
    video = open_video(path)
    try:
        return video, video.read(choose(video.count))
    except Miscounted:
        video = _counted(video)
        return video, video.read(choose(video.count))


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


def upright(frame: VideoFrame) -> np.ndarray:
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
