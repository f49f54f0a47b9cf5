"""Judging one face: the student of `agfas distill` beside Silent-Face's two networks, in float32 and in int8.

Weights are untrained unless given: the time of a layer does not depend on them. How many layers stay in float32 does,
so the student is timed with none and with the most that `agfas export` leaves. Every graph is made by the tools of
`agfas export`, which itself refuses Silent-Face's networks as they cut their own crops. One thread each, one face at
a time.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from oanet.detectors import Detector, build_detector
from oanet.published import find_weights
from pipelines.cost.counting import count, fake_tensors
from pipelines.export.graph import OPSET
from pipelines.export.int8 import MOST_KEPT, by_depth, write_int8
from pipelines.training.settings import DistillSettings
from pipelines.verdict.student import build_student
from scripts.bench.generators import COMPACT, build_generator
from scripts.bench.turns import race

STUDENT, SILENT_FACE = "student", "Silent-Face, two networks"
FLOAT, WHOLE, HALF = "float32", "int8", "int8, half of the layers float32"
RECIPE = "public recipe and OA-Net"
_ROUNDS, _CALIBRATION, _CALLS = 20, 4, 41


class Graph(nn.Module):
    """(B, S, S, C) uint8 -> score (B,)."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector
        self.eval().requires_grad_(False)

    def forward(self, faces: Tensor) -> Tensor:
        """See the class."""
        return self.detector(faces.permute(0, 3, 1, 2).to(torch.float32) / 127.5 - 1).probability_bonafide


def student_benchmark(weights: Path | None = None, repeats: int = 25) -> list[dict[str, Any]]:
    """Time single faces; the contenders take turns.

    Args:
        weights: folder of Silent-Face's files; None: untrained.
        repeats: turns of each, of 20 faces.

    Returns:
        A row per network and precision: milliseconds a face, the ratio to Silent-Face in the same precision, and
        gigaflops of a face. The last row is the operations of the public recipe at `compact`, 41 calls of the
        U-Net, with OA-Net at `base`; counted, not timed.
    """
    side = DistillSettings().size
    files: dict[str, Any] = {} if weights is None else {"weights": find_weights("minifasnet", weights)}
    networks = {
        STUDENT: (build_student(side, seed=0), side),
        SILENT_FACE: (build_detector("minifasnet", **files), 80),
    }
    with tempfile.TemporaryDirectory() as folder:
        runs = {
            (name, precision): run
            for name, (network, size) in networks.items()
            for precision, run in _runs(name, network, size, Path(folder)).items()
        }
        medians = race({"|".join(key): run for key, run in runs.items()}, repeats, warm=True).medians
    flops = {name: _flops(network, size) for name, (network, size) in networks.items()}
    rows: list[dict[str, Any]] = [
        {
            "benchmark": "student",
            "network": name,
            "precision": precision,
            "ms_per_face": 1000 * medians[f"{name}|{precision}"] / _ROUNDS,
            "ratio": medians[f"{name}|{precision}"]
            / medians[f"{SILENT_FACE}|{FLOAT if precision == FLOAT else WHOLE}"],
            "gigaflops": flops[name] / 1e9,
            "of the student's": flops[name] / flops[STUDENT],
        }
        for name, precision in runs
    ]
    recipe = _recipe_flops()
    rows.append({"network": RECIPE, "gigaflops": recipe / 1e9, "of the student's": recipe / flops[STUDENT]})
    return rows


def _runs(name: str, network: Detector, size: int, folder: Path) -> dict[str, Callable[[], Any]]:
    """Twenty faces one by one, by precision."""
    draw = partial(_faces, size, network.look_at_nobody().shape[-1])
    path = folder / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values that are constants of the graph, as they are meant to be
        torch.onnx.export(
            Graph(network), (torch.from_numpy(draw(2)),), path, input_names=["faces"], output_names=["score"],
            opset_version=OPSET, dynamic_axes={"faces": {0: "batch"}, "score": {0: "batch"}}, dynamo=False,
        )  # fmt: skip
    made, layers = {FLOAT: _session(path)}, by_depth(path)
    for precision, share in {WHOLE: 0.0, **({HALF: MOST_KEPT} if name == STUDENT else {})}.items():
        rewritten = folder / "int8.onnx"
        feeds = [{"faces": draw(16, seed)} for seed in range(_CALIBRATION)]
        write_int8(path, rewritten, feeds, layers[int(share * len(layers)) :])
        made[precision] = _session(rewritten)
    face = {"faces": draw(1)}
    return {precision: partial(_judge, session, face) for precision, session in made.items()}


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])


def _judge(session: onnxruntime.InferenceSession, face: dict[str, np.ndarray]) -> None:
    for _ in range(_ROUNDS):
        session.run(None, face)


def _faces(size: int, channels: int, number: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (number, size, size, channels), dtype=np.uint8)


def _flops(network: Detector, size: int) -> int:
    """Of one face."""
    channels = network.look_at_nobody().shape[-1]
    with fake_tensors(), torch.no_grad():
        return count(lambda: network.eval()(torch.zeros(1, channels, size, size))).flops


def _recipe_flops() -> int:
    """Of one face: restored from t = 801 by the compact generator, and judged by OA-Net beside its cue."""
    size = COMPACT.image_size
    pipeline, detector = build_generator(COMPACT), build_detector("oanet", preset="base").eval()

    def call(latents: Tensor, tokens: Tensor) -> Callable[[], Any]:
        def predict() -> Any:
            with pipeline.conditioned(tokens) as conditioning:
                return pipeline.predict_noise(latents, 801, conditioning)

        return predict

    # Run once each: the generator looks at values, which fake tensors lack.
    with torch.no_grad():
        face = torch.zeros(1, 3, size, size)
        latents, tokens = pipeline.encode(face), pipeline.identity_tokens(face)
        once = [
            lambda: pipeline.encode(face),
            lambda: pipeline.identity_tokens(face),
            lambda: pipeline.decode(latents),
            lambda: detector(face, face),
        ]
        return sum(count(work).flops for work in once) + _CALLS * count(call(latents, tokens)).flops
