"""Video containers: the stream of pictures, its frames as a player shows them, and how many of them there are."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO

from pipelines.data import images
from pipelines.data.formats import PICTURE, head_of, kind_of
from pipelines.data.held import File, HeldFile, size_of
from pipelines.errors import AgfasError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# Video containers only: FFmpeg also opens playlists, which refer to other files and addresses.
_CONTAINERS = "mov,mp4,3gp,avi,matroska,webm,mpeg,mpegvideo,mpegts,asf,flv,ogg"
_ALLOWED = "Allowed are MP4, MOV, 3GP, AVI, MKV, WebM, MPEG, MTS, FLV, OGV and WMV files with a video stream."
_MOST_BOXES = 100_000
# Seconds of sound after the last frame that say that a cut did not cost frames.
_SOUND_AFTER = 1.0


@contextmanager
def opened(path: File) -> Iterator[tuple[InputContainer, VideoStream]]:
    """A container and the stream that a player shows: the default one, then the largest; never a cover picture.

    Raises:
        AgfasError: not a video, no video stream, an unknown codec, or too large frames.
    """
    import av

    options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
    try:
        # The names and titles in a file may be in any encoding, and nobody reads them here.
        given = path.open() if isinstance(path, HeldFile) else f"file:{path}"
        container = av.open(given, "r", options=options, metadata_errors="replace")
    except (av.FFmpegError, OSError) as error:
        raise _not_a_video(path, error) from error
    with container:
        if isinstance(path, HeldFile):
            path.check_seconds((container.duration or 0) / av.time_base)
        stream = _shown_stream(container, path)
        context = stream.codec_context
        if context is None:
            raise AgfasError(f"{path} has an unknown codec. Export it as MP4 with H.264.")
        images.check_size(path, (context.width, context.height), "frames of ")
        # The size may change on the way.
        context.options = {"max_pixels": str(images.most_pixels(path))}
        # Videos are decoded in parallel processes; threads within one would only add memory.
        context.thread_count = 1
        yield container, stream


def picture_streams(container: InputContainer) -> list[VideoStream]:
    """The streams of moving pictures; an audio file may have its cover as a video stream."""
    return [s for s in container.streams.video if not s.disposition & type(s.disposition).attached_pic]


def _shown_stream(container: InputContainer, path: File) -> VideoStream:
    pictures = picture_streams(container)
    if not pictures and is_cut(path):
        raise _without_index(path, "it ends early")
    if not pictures:
        kinds = ", ".join(sorted({stream.type for stream in islice(container.streams, 8)})) or "nothing"
        raise AgfasError(f"{path} has no video stream, only {kinds}. {_ALLOWED}")

    def rank(stream: VideoStream) -> tuple[bool, int]:
        size = stream.codec_context.width * stream.codec_context.height if stream.codec_context else 0
        return bool(stream.disposition & type(stream.disposition).default), size

    return max(pictures, key=rank)


def _not_a_video(path: File, error: Exception) -> AgfasError:
    kind = kind_of(head_of(path))
    if kind is not None and kind.medium == PICTURE:
        return images.NotRead(path, kind.name, f"Give it a name that ends in {kind.suffixes[0]}.", "not a video")
    if kind is not None and kind.suffixes[0] == ".mp4":
        return _without_index(path, in_short(error))
    return AgfasError(f"{path} is not a video that can be read ({in_short(error)}). {_ALLOWED}")


def _without_index(path: File, why: str) -> AgfasError:
    return AgfasError(
        f"{path} is a video that is damaged or cut short: its index, which may be at its end, cannot be read ({why})."
        " Copy or export it again."
    )


class Decoding:
    """The frames of a stream in the order of time, without those that are damaged, as a player goes on after them.

    Args:
        container, stream: of `opened`.

    Attributes:
        lost: packets that could not be read or decoded, and frames whose references were missing.
        reached: seconds at which the last packet of any stream ends.
    """

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self.container, self.stream = container, stream
        self.lost, self.reached = 0, 0.0

    def __iter__(self) -> Iterator[VideoFrame]:
        import av

        for packet in self._packets():
            try:
                frames = self.stream.codec_context.decode(packet)
            except (av.FFmpegError, OSError):
                self.lost += 1
                continue
            for frame in frames:
                if frame.is_corrupt:
                    self.lost += 1
                else:
                    yield frame

    def _packets(self) -> Iterator[Packet | None]:
        """The packets of the stream; None at the end, for the frames that the decoder still holds."""
        import av

        try:
            for packet in self.container.demux():
                if packet.pts is not None and packet.time_base:
                    end = packet.pts + (packet.duration or 0)
                    self.reached = max(self.reached, float(end * packet.time_base))
                if packet.stream is self.stream and packet.size:
                    yield packet
        except (av.FFmpegError, OSError):
            self.lost += 1
        yield None


@dataclass(frozen=True)
class Counted:
    """What decoding a whole video found.

    Attributes:
        count: frames.
        promised: frames that the container tells of; more than `count` only of a file that is cut short or damaged.
        fps: average frames per second; 0 if unknown.
    """

    count: int
    promised: int
    fps: float


def is_listed(stream: VideoStream, path: File) -> bool:
    """Whether the container lists every frame that a player shows, so that they need not be counted by decoding.

    Not of a clip whose beginning an edit list hides, a file that ends before its index does, chunks without a picture
    (dropped frames), or fragments behind the index.
    """
    entries: Any = getattr(stream, "index_entries", ())
    size = size_of(path)
    return (
        0 < len(entries) == stream.frames
        and bool(entries[0].is_keyframe)
        and all(not e.is_discard and e.size > 0 and e.pos + e.size <= size for e in entries)
    )


def count_frames(path: File) -> Counted:
    """Decode a video from its beginning to its end.

    Raises:
        AgfasError: of `opened`.
    """
    with opened(path) as (container, stream):
        entries: Any = getattr(stream, "index_entries", ())
        hidden = sum(entry.is_discard for entry in entries)
        decoding, first, last, count = Decoding(container, stream), 0.0, 0.0, 0
        for count, frame in enumerate(decoding, 1):
            last = frame.time or 0.0
            first = first if count > 1 else last
            if isinstance(path, HeldFile):
                path.check_seconds(last - first)
        fps = (count - 1) / (last - first) if last > first else float(stream.average_rate or 0)
        promised = 0
        if decoding.lost or is_cut(path):
            listed = len(entries) - hidden if hidden else stream.frames
            promised = listed if listed >= count else _by_duration(container, count, last, decoding.reached)
        return Counted(count, max(count, promised), fps)


def _by_duration(container: InputContainer, count: int, last: float, reached: float) -> int:
    """Frames of the whole duration at the rate of those that were decoded, unless sound went on after the last one."""
    import av

    start = (container.start_time or 0) / av.time_base
    whole = (container.duration or 0) / av.time_base
    return round(count * whole / (reached - start)) if last > start and reached - last < _SOUND_AFTER else count


def is_cut(path: File) -> bool:
    """Whether a file ends before its container says so: MP4 and MOV, AVI, MKV and WebM."""
    size = size_of(path)
    with path.open("rb") as stream:
        head = stream.read(16)
        if head.startswith(b"RIFF"):
            return 8 + int.from_bytes(head[4:8], "little") > size
        if head.startswith(b"\x1a\x45\xdf\xa3"):
            return _end_of_segment(stream) > size
        return head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide") and _end_of_boxes(stream, size) > size


def _end_of_segment(stream: BinaryIO) -> int:
    """Where the first segment of a Matroska file ends; 0 if it does not say."""
    stream.seek(4)
    stream.seek(_vint(stream), 1)
    if stream.read(4) != b"\x18\x53\x80\x67":
        return 0
    length = _vint(stream)
    return stream.tell() + length if length >= 0 else 0


def _vint(stream: BinaryIO) -> int:
    """A number of EBML, whose leading zero bits tell its length; -1 if it is unknown."""
    first = stream.read(1) or b"\x80"
    more = 8 - first[0].bit_length()
    value = int.from_bytes(bytes([first[0] & (0x7F >> more)]) + stream.read(more), "big")
    return -1 if value == (1 << 7 * (more + 1)) - 1 else value


def _end_of_boxes(stream: BinaryIO, size: int) -> int:
    """Where the last box of an MP4 file ends."""
    place = 0
    for _ in range(_MOST_BOXES):
        stream.seek(place)
        head = stream.read(16)
        if place >= size or len(head) < 8:
            break
        (length,) = struct.unpack(">I", head[:4])
        if length == 1 and len(head) == 16:
            (length,) = struct.unpack(">Q", head[8:])
        if length < 8:  # 0: up to the end of the file
            break
        place += length
    return place


def in_short(error: Exception) -> str:
    """What FFmpeg says of a file, without its name."""
    return str(getattr(error, "strerror", None) or error).split(":")[0]
