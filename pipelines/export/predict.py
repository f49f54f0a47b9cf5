"""Says whether the faces in pictures are live, by an exported model; needs numpy, OpenCV and onnxruntime alone.

    python predict.py PICTURE...
    from predict import Model; print(Model("folder")("photo.jpg"))

A part of AG-FAS, whose answers it gives: the same pixels, faces, crops, noise and threshold. One file on purpose. JPEG,
PNG and WebP are read. A graph in OpenVINO's format needs OpenVINO instead of onnxruntime. Coordinates are x, y in
pixels of the upright picture, with the centre of the first pixel at (0, 0).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import re
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

MOST_PIXELS, MOST_SIDE = 89_000_000, 65_535
SMALLEST_CROP, SQUARE_TOLERANCE = 16, 0.02

Find = Callable[[np.ndarray], "list[Face]"]
Run = Callable[[dict[str, np.ndarray]], list[np.ndarray]]


class Refused(ValueError):
    """A picture that cannot be judged, and why."""


@dataclass(frozen=True)
class Face:
    """A face in a picture: left, top, width and height; eyes, nose, mouth corners; the detector's confidence."""

    box: np.ndarray
    landmarks: np.ndarray
    score: float

    @property
    def area(self) -> float:
        """Of the box, in square pixels."""
        return float(self.box[2] * self.box[3])


@dataclass(frozen=True)
class Answer:
    """`verdict` is live, attack, no face or refused; `reason` is one sentence; `score` in [0, 1], higher is more live;
    `box` is that of the largest face, which decides."""

    source: str
    verdict: str
    reason: str
    score: float | None
    threshold: float
    box: tuple[float, ...] | None = None

    def __str__(self) -> str:
        return f"{self.source}: {self.verdict}: {self.reason}"


class Model:
    """An exported model; its files are checked against their hashes.

    Args:
        folder: default: the folder of this file.

    Raises:
        ValueError: the folder holds something else, or a file is not what was exported.
    """

    def __init__(self, folder: str | Path = Path(__file__).parent) -> None:
        folder = Path(folder)
        self.settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
        if self.settings.get("format") != "agfas exported model" or self.settings.get("version") != 1:
            raise ValueError(f"{folder} is no exported model of the version that this file reads.")
        for name, expected in self.settings["files"].items():
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != expected:
                raise ValueError(f"{folder / name} is not the file that was exported. Copy or export it again.")
        self.run = open_graph(folder / self.settings["graph"]["file"])
        self.model = self.settings["model"]
        part = self.model["face_detector"]
        place = None if part is None else folder / "face_detector" / part["weights"]
        self.find = None if place is None else FaceFinder(place.read_bytes(), part["fingerprint"])

    def __call__(self, picture: str | Path | np.ndarray, aligned: bool = False) -> Answer:
        """Judge a picture: a file, or (H, W, 3) uint8 RGB; `aligned`: it is a square crop of a face already."""
        limit = self.model["threshold"]["value"]
        source = "picture" if isinstance(picture, np.ndarray) else str(picture)
        try:
            pixels = _checked(picture) if isinstance(picture, np.ndarray) else read_picture(Path(picture))
            face = None if aligned or self.find is None else self._largest(pixels)
            if face is None and not aligned and self.find is not None:
                return Answer(source, "no face", f"{self.model['face_detector']['name']} found no face", None, limit)
            crop = self.crop(pixels, face)
        except Refused as error:
            return Answer(source, "refused", str(error), None, limit)
        scores, classes = self.scores(crop[None])
        box = None if face is None else tuple(map(float, face.box))
        return self._answer(source, float(scores[0]), classes[0], box)

    def _largest(self, pixels: np.ndarray) -> Face | None:
        assert self.find is not None
        sure = [face for face in self.find(pixels) if face.score >= self.model["face"]["min_score"]]
        return max(sure, key=lambda face: face.area, default=None)

    def _answer(self, source: str, score: float, classes: np.ndarray, box: tuple[float, ...] | None) -> Answer:
        threshold = self.model["threshold"]
        limit = max(map(float, classes), default=threshold["value"]) if threshold["by_class"] else threshold["value"]
        what = f"{limit:.4f} of the likeliest attack" if threshold["by_class"] else f"threshold {limit:.4f}"
        reason = f"score {score:.4f} {'>=' if score >= limit else '<'} {what}{self._basis()}"
        return Answer(source, "live" if score >= limit else "attack", reason, score, limit, box)

    def _basis(self) -> str:
        facts = self.model.get("calibration")
        if facts is None:
            return ""
        who = "one person" if facts["one_person"] else f"{facts['groups']} persons"
        return f", chosen on {facts['faces']:,} live faces of {who}"

    def crop(self, pixels: np.ndarray, face: Face | None) -> np.ndarray:
        """What the graph sees of a face, (size, size, 3) uint8; of a picture without one, its central square."""
        crop = self.model["face"]
        if face is None:
            height, width = pixels.shape[:2]
            side = min(height, width)
            if side < SMALLEST_CROP:
                raise Refused(f"{width} x {height} pixels are too few to hold a face.")
            if max(height, width) - side > SQUARE_TOLERANCE * max(height, width):
                raise Refused(f"{width} x {height} pixels are no aligned face crop: those are square.")
            top, left = (height - side) // 2, (width - side) // 2
            square = resize(pixels[top : top + side, left : left + side], crop["crop_size"])
        else:
            square = align(pixels, face.landmarks, np.array(self.settings["points"]), crop["crop_size"])
        return resize(square, crop["size"])

    def scores(self, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores (B,) and probabilities of the kinds of attack (B, K), K = 0 for most models, of crops (B, S, S, 3)."""
        graph = self.settings["graph"]
        feeds = {graph["faces"]: np.ascontiguousarray(crops)}
        keys = [hashlib.sha256(np.ascontiguousarray(crop).tobytes()).hexdigest() for crop in crops]
        for each in graph["noise"]:
            drawn = [normal_noise(each["prefix"] + key, each["seed"], tuple(each["shape"])) for key in keys]
            feeds[each["input"]] = np.stack(drawn)
        found = dict(zip(graph["outputs"], self.run(feeds), strict=True))
        if not np.isfinite(found["score"]).all():
            raise ValueError("The score is not finite: the weights are broken. Export the model again.")
        return found["score"].astype(np.float64), found.get("attack_classes", np.empty((len(crops), 0)))


def open_graph(path: Path) -> Run:
    """The graph of a file, `.onnx` or OpenVINO's `.xml`, as a function from inputs by name to its outputs."""
    if path.suffix == ".xml":
        import openvino

        compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return lambda feeds: [np.array(value) for value in compiled(feeds).values()]
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    return lambda feeds: session.run(None, feeds)


def normal_noise(key: str, seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """Unit Gaussian values (16 or more) of the stream of a key: those of torch's generator on a CPU, to the last bits.

    Mersenne Twister, 24 bits a uniform value, Box and Muller on groups of 16; the last group is drawn again if they
    are no multiple of 16.
    """
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    twister = np.random.RandomState((int.from_bytes(digest[:8], "big") >> 1) & 0xFFFFFFFF)
    count = math.prod(shape)
    drawn = twister.randint(0, 1 << 32, count + (16 if count % 16 else 0), dtype=np.uint32)
    uniform = (drawn & 0xFFFFFF).astype(np.float64) / (1 << 24)
    values = np.empty(count)
    whole = count - count % 16
    values[:whole] = _box_muller(uniform[:whole])
    if count % 16:
        values[count - 16 :] = _box_muller(uniform[count:])
    return values.astype(np.float32).reshape(shape)


def _box_muller(uniform: np.ndarray) -> np.ndarray:
    radii, turns = uniform.reshape(-1, 2, 8).transpose(1, 0, 2)
    radius, angle = np.sqrt(-2 * np.log(1 - radii)), 2 * np.pi * turns
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)


# Pictures


def read_picture(path: Path) -> np.ndarray:
    """A file as (H, W, 3) uint8 RGB, upright by its orientation, transparent parts black.

    Raises:
        Refused: no file, another format, too many pixels, or a file that is not whole.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Refused(f"it cannot be read ({error.strerror})") from error
    kinds = {b"\xff\xd8\xff": _inspect_jpeg, b"\x89PNG\r\n\x1a\n": _inspect_png, b"RIFF": _inspect_webp}
    inspect = next((look for mark, look in kinds.items() if content.startswith(mark)), None)
    if inspect is None:
        raise Refused("it is no JPEG, PNG or WebP picture. Save it as one.")
    try:
        width, height, turn = inspect(content)
    except (struct.error, IndexError) as error:
        raise Refused("it is cut off or damaged. Copy it again.") from error
    if width * height > MOST_PIXELS or max(width, height) > MOST_SIDE:
        raise Refused(f"it has {width} x {height} pixels; at most {MOST_PIXELS / 1e6:.0f} million are read.")
    try:
        found = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        found = None
    if found is None or found.shape[:2] != (height, width):
        raise Refused("it cannot be decoded. Copy it again.")
    return np.ascontiguousarray(_upright(_rgb(found), turn))


def _checked(picture: np.ndarray) -> np.ndarray:
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or picture.size == 0:
        raise Refused(f"a picture must be (H, W, 3) uint8 and not empty, not {picture.shape} {picture.dtype}.")
    return np.ascontiguousarray(picture)


def _rgb(picture: np.ndarray) -> np.ndarray:
    """What OpenCV decoded, grey or with alpha, of 8 or 16 bits, as RGB of 8."""
    if picture.dtype == np.uint16:
        grey = picture.ndim == 2
        picture = ((picture.astype(np.uint32) * 255 + 32767) // 65535 if grey else picture >> 8).astype(np.uint8)
    if picture.ndim == 2:
        return np.repeat(picture[..., None], 3, axis=2)
    if picture.shape[2] == 4:
        # Pillow's blending with black, in integers.
        mixed = picture[..., :3].astype(np.uint32) * picture[..., 3:] * 128 + (128 << 7)
        picture = ((((mixed >> 8) + mixed) >> 8) >> 7).astype(np.uint8)
    return picture[..., ::-1]


def _upright(picture: np.ndarray, orientation: int) -> np.ndarray:
    """Undo an EXIF orientation."""
    if orientation in (2, 3):
        picture = picture[:, ::-1]
    if orientation in (3, 4):
        picture = picture[::-1]
    if orientation in (5, 7):
        picture = picture.swapaxes(0, 1)
    if orientation == 7:
        picture = picture[::-1, ::-1]
    return np.rot90(picture, {6: -1, 8: 1}[orientation]) if orientation in (6, 8) else picture


def _inspect_jpeg(content: bytes) -> tuple[int, int, int]:
    """Width, height and orientation; see the other two."""
    size, exif, xmp, place = (0, 0), b"", b"", 2
    while mark := re.compile(rb"\xff+([\x01-\xcf\xd8-\xfe])").search(content, place):
        code, place = mark[1][0], mark.end()
        if code == 0xD9:
            return *size, _orientation(exif, xmp)
        if code in (0x01, 0xD8):
            continue
        (length,) = struct.unpack_from(">H", content, place)
        data = content[place + 2 : place + length]
        if 0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC):
            height, width, channels = struct.unpack_from(">xHHB", data)
            if channels == 4:
                raise Refused("it is in CMYK. Save it in RGB.")
            size = (width, height)
        if code == 0xE1 and data.startswith(b"Exif\0\0"):
            exif = exif or data[6:]
        if code == 0xE1 and data.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
            xmp = data
        place += length
    raise Refused("it is cut off. Copy it again.")


def _inspect_png(content: bytes) -> tuple[int, int, int]:
    width, height, colours = struct.unpack_from(">IIxB", content, 16)
    exif, xmp, place, kind = b"", b"", 8, b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", content, place)
        data = content[place + 8 : place + 8 + length]
        (expected,) = struct.unpack_from(">I", content, place + 8 + length)
        if zlib.crc32(kind + data) != expected:
            raise Refused("it is damaged. Copy it again.")
        if (kind == b"tRNS" and colours in (0, 2)) or b"Raw profile type exif" in data[:32]:
            raise Refused(
                "its transparent colour or its orientation is stored in a way that is not read. Save it anew."
            )
        exif = data if kind == b"eXIf" else exif
        xmp = data if kind == b"iTXt" and data.startswith(b"XML:com.adobe.xmp") else xmp
        place += 12 + length
    return width, height, _orientation(exif, xmp)


def _inspect_webp(content: bytes) -> tuple[int, int, int]:
    (end,) = struct.unpack_from("<I", content, 4)
    if content[8:12] != b"WEBP" or len(content) < end + 8:
        raise Refused("it is no WebP picture, or is cut off. Copy it again.")
    size, exif, xmp, place = (0, 0), b"", b"", 12
    while place + 8 <= min(len(content), end + 8):
        kind, length = struct.unpack_from("<4sI", content, place)
        data = content[place + 8 : place + 8 + length]
        if kind == b"ANIM":
            raise Refused("it is animated. Save one of its frames.")
        if kind == b"VP8 ":
            width, height = struct.unpack_from("<HH", data, 6)
            size = (width & 0x3FFF, height & 0x3FFF)
        if kind == b"VP8L":
            (bits,) = struct.unpack_from("<I", data, 1)
            size = ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
        exif = data.removeprefix(b"Exif\0\0") if kind == b"EXIF" else exif
        xmp = data if kind == b"XMP " else xmp
        place += 8 + length + length % 2
    return *size, _orientation(exif, xmp)


def _orientation(exif: bytes, xmp: bytes) -> int:
    """Of an EXIF block, or else of XMP; 1 without."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    try:
        if order:
            (start,) = struct.unpack_from(f"{order}I", exif, 4)
            (count,) = struct.unpack_from(f"{order}H", exif, start)
            for place in range(start + 2, start + 2 + 12 * count, 12):
                tag, kind = struct.unpack_from(f"{order}HH", exif, place)
                if tag == 0x0112:
                    return int(struct.unpack_from(order + {1: "B", 3: "H", 4: "I"}.get(kind, "H"), exif, place + 8)[0])
    except struct.error:  # a broken block is harmless
        pass
    found = re.search(rb'tiff:Orientation(?:="|>)([0-9])', xmp)
    return int(found[1]) if found else 1


# Faces


class FaceFinder:
    """YuNet in OpenCV: a small copy of the picture first, larger ones for small faces, turned ones for unsure faces.

    Args:
        graph: the ONNX file.
        settings: thresholds and sizes.
    """

    def __init__(self, graph: bytes, settings: dict[str, Any]) -> None:
        self.settings = settings
        level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # OpenCV 5 warns at every start
        try:
            self._net = cv2.FaceDetectorYN.create(
                "onnx", np.frombuffer(graph, np.uint8), np.zeros(0, np.uint8), (64, 64),
                settings["score_threshold"], settings["nms_threshold"], 5000,
            )  # fmt: skip
        finally:
            cv2.utils.logging.setLogLevel(level)

    def __call__(self, picture: np.ndarray) -> list[Face]:
        """The faces of (H, W, 3) uint8 RGB, the largest first."""
        chosen = self.settings
        first, sure = chosen["longer_side"], chosen["sure"]
        faces = self._at_scales(picture, self._search, chosen["largest_side"])
        if sure == 0:
            return faces
        if not faces:
            faces = self._at_scales(picture, self._quarter_turns, first)
        return _ordered([face if face.score >= sure else self._surest(picture, face) for face in faces])

    def _search(self, picture: np.ndarray) -> list[Face]:
        self._net.setInputSize((picture.shape[1], picture.shape[0]))
        _, rows = self._net.detect(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        found = [] if rows is None else np.asarray(rows, dtype=np.float32)
        return [Face(row[:4], row[4:14].reshape(5, 2), float(row[14])) for row in found]

    def _at_scales(self, picture: np.ndarray, search: Find, largest: int) -> list[Face]:
        best: list[Face] = []
        for side in _sides(self.settings["longer_side"], min(max(picture.shape[:2]), largest)):
            copy = _shrink(picture, side)
            ratio = (picture.shape[1] / copy.shape[1], picture.shape[0] / copy.shape[0])
            found = _ordered([_enlarge(face, ratio) for face in search(copy)])
            if best and (not found or found[0].area < best[0].area / 2):
                break
            best = found
            if best and best[0].box[2] / ratio[0] >= self.settings["small_face"]:
                break
        return best

    def _quarter_turns(self, picture: np.ndarray) -> list[Face]:
        best: list[Face] = []
        height, width = picture.shape[:2]
        for angle in (90.0, 180.0, 270.0):
            size = (height, width) if angle != 180.0 else (width, height)
            found = self._turned(picture, ((width - 1) / 2, (height - 1) / 2), angle, size)
            if found and (not best or found[0].score > best[0].score):
                best = found
        return best

    def _turned(
        self, picture: np.ndarray, centre: tuple[float, float], angle: float, size: tuple[int, int]
    ) -> list[Face]:
        cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        turn = np.array([[cosine, -sine], [sine, cosine]])
        matrix = np.hstack([turn, ((np.array(size) - 1) / 2 - turn @ np.array(centre))[:, None]])
        copy = cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_LINEAR)
        back = _inverse(matrix)
        return _ordered([_turned_back(face, back) for face in self._search(copy)])

    def _surest(self, picture: np.ndarray, face: Face) -> Face:
        left, top, width, height = (float(value) for value in face.box)
        x, y, side = left + width / 2, top + height / 2, 2 * max(width, height)
        reach = side * 0.71 + 1
        column, row = max(0, int(x - reach)), max(0, int(y - reach))
        around = picture[row : max(row, int(y + reach)) + 1, column : max(column, int(x + reach)) + 1]
        if around.size == 0:
            return face
        small = _shrink(around, max(1, round(max(around.shape[:2]) * 256 / max(side, 256))))
        ratio = (around.shape[1] / small.shape[1], around.shape[0] / small.shape[0])
        corner = np.array([column, row], dtype=np.float32)
        centre = ((x - corner[0]) / ratio[0], (y - corner[1]) / ratio[1])
        best, size = face, max(32, round(side / max(ratio)))
        for angle in (45.0 * step for step in range(1, 8)):
            for other in self._turned(small, centre, angle, (size, size)):
                moved = _enlarge(other, ratio)
                moved = Face(
                    np.concatenate([moved.box[:2] + corner, moved.box[2:]]), moved.landmarks + corner, other.score
                )
                u, v = moved.box[:2] + moved.box[2:] / 2
                if left <= u <= left + width and top <= v <= top + height:
                    best = moved if moved.score > max(best.score, face.score + 0.03) else best
                    break
        return best


def _sides(first: int, last: int) -> Iterator[int]:
    while first < last:
        yield first
        first *= 2
    yield last


def _shrink(picture: np.ndarray, side: int) -> np.ndarray:
    height, width = picture.shape[:2]
    factor = side / max(height, width)
    if factor >= 1:
        return picture
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def _enlarge(face: Face, ratio: tuple[float, float]) -> Face:
    box = face.box * np.array([*ratio, *ratio], dtype=np.float32)
    return Face(box, face.landmarks * np.array(ratio, dtype=np.float32), face.score)


def _turned_back(face: Face, back: np.ndarray) -> Face:
    left, top, width, height = (float(value) for value in face.box)
    x, y = _moved(back, np.array([[left + width / 2, top + height / 2]]))[0]
    side = (width + height) / 2
    box = np.array([x - side / 2, y - side / 2, side, side], dtype=np.float32)
    return Face(box, _moved(back, face.landmarks).astype(np.float32), face.score)


def _ordered(faces: list[Face]) -> list[Face]:
    real = [face for face in faces if np.isfinite(face.box).all() and np.isfinite(face.landmarks).all()]
    real = [face for face in real if face.box[2] > 0 and face.box[3] > 0]
    return sorted(real, key=lambda face: (-face.area, -face.score, float(face.box[0]), float(face.box[1])))


# Crops


def align(picture: np.ndarray, landmarks: np.ndarray, points: np.ndarray, size: int) -> np.ndarray:
    """The square crop in which five landmarks fit `points` (5, 2), in units of its side, by least squares."""
    source, target = np.asarray(landmarks, dtype=np.float64), points * size
    w, z = source @ (1, 1j), target @ (1, 1j)
    w_mean, z_mean = w.mean(), z.mean()
    w, z = w - w_mean, z - z_mean
    power = float((np.abs(w) ** 2).sum())
    if math.sqrt(power / len(w)) < 0.5:
        raise Refused("The landmarks coincide, so they do not form a face.")
    a = complex((w.conj() * z).sum() / power)
    if abs(a) * math.sqrt(power) < 0.05 * math.sqrt(float((np.abs(z) ** 2).sum())):
        raise Refused("The landmarks do not fit a face: they are mirrored or out of order.")
    shift = complex(z_mean - a * w_mean)
    return _warp(picture, np.array([[a.real, -a.imag, shift.real], [a.imag, a.real, shift.imag]]), size)


def _warp(picture: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """Bilinear; of a face n times larger than the crop, the mean of n x n samples a pixel."""
    height, width = picture.shape[:2]
    reached = _moved(_inverse(matrix), np.array([[-1, -1], [size, -1], [-1, size], [size, size]]))
    left, top = np.maximum(np.floor(reached.min(axis=0)).astype(int) - 1, 0)
    right, bottom = np.minimum(np.ceil(reached.max(axis=0)).astype(int) + 2, (width, height))
    if right <= left or bottom <= top:
        raise Refused(f"The face is outside the picture of {width} x {height} pixels.")
    picture, matrix = picture[top:bottom, left:right], matrix.copy()
    matrix[:, 2] += matrix[:, :2] @ (left, top)
    dense = math.ceil(1 / float(np.hypot(matrix[0, 0], matrix[1, 0])) - 1e-6)
    dense = min(dense, max(1, 8192 // size))
    if dense <= 1:
        return cv2.warpAffine(picture, matrix, (size, size), flags=cv2.INTER_LINEAR)
    fine = matrix * dense + np.array([[0, 0, (dense - 1) / 2]] * 2)
    sampled = cv2.warpAffine(picture, fine, (size * dense, size * dense), flags=cv2.INTER_LINEAR)
    return cv2.resize(sampled, (size, size), interpolation=cv2.INTER_AREA)


def _moved(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return np.asarray(points, dtype=np.float64) @ matrix[:, :2].T + matrix[:, 2]


def _inverse(matrix: np.ndarray) -> np.ndarray:
    inverse = np.linalg.inv(matrix[:, :2])
    return np.hstack([inverse, -(inverse @ matrix[:, 2])[:, None]])


def resize(picture: np.ndarray, size: int) -> np.ndarray:
    """(H, W, 3) uint8 -> (size, size, 3), with Lanczos in Pillow's whole numbers: bit for bit its result."""
    if picture.shape[1] != size:
        picture = _resized_rows(picture.swapaxes(0, 1), size).swapaxes(0, 1)
    return _resized_rows(picture, size) if picture.shape[0] != size else picture


def _resized_rows(picture: np.ndarray, size: int) -> np.ndarray:
    length, bits = len(picture), 22
    scale = length / size
    stretch = max(scale, 1.0)
    result = np.empty((size, *picture.shape[1:]), np.uint8)
    for place in range(size):
        centre = (place + 0.5) * scale
        start = max(int(centre - 3 * stretch + 0.5), 0)
        stop = min(int(centre + 3 * stretch + 0.5), length)
        weights = [_lanczos((number - centre + 0.5) * (1 / stretch)) for number in range(start, stop)]
        total = sum(weights)
        whole = [int(weight / total * (1 << bits) + math.copysign(0.5, weight)) for weight in weights]
        # Whole numbers, and far below 2^53: the sum of floats is exact.
        mixed = np.array(whole, np.float64) @ picture[start:stop].reshape(stop - start, -1).astype(np.float64)
        mixed = np.floor((mixed + (1 << (bits - 1))) / (1 << bits)).reshape(picture.shape[1:])
        result[place] = np.clip(mixed, 0, 255)
    return result


def _lanczos(x: float) -> float:
    if not -3 <= x < 3:
        return 0.0
    return 1.0 if x == 0 else math.sin(math.pi * x) / (math.pi * x) * math.sin(math.pi * x / 3) / (math.pi * x / 3)


def main() -> int:
    """The command line; 1 if a picture could not be judged."""
    parser = argparse.ArgumentParser(description="Say whether the faces in pictures are live.")
    parser.add_argument("pictures", nargs="+", metavar="PICTURE")
    parser.add_argument(
        "--model", default=Path(__file__).parent, help="the exported folder; default: that of this file"
    )
    parser.add_argument("--aligned", action="store_true", help="the pictures are aligned, square face crops")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    given = parser.parse_args()
    try:
        model = Model(given.model)
    except (OSError, ValueError, KeyError) as error:
        print(f"predict.py: {error}", file=sys.stderr)
        return 1
    answers = [model(picture, given.aligned) for picture in given.pictures]
    for answer in answers:
        print(json.dumps(asdict(answer)) if given.json else answer)
    return int(any(answer.verdict == "refused" for answer in answers))


if __name__ == "__main__":
    sys.exit(main())
