"""What FAS-Aug costs a face: every operator at its full strength, and the mean of a policy."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from pipelines.streams import stream
from pipelines.training.fas_aug import OPERATORS, FasAug, Operator
from pipelines.training.settings import FasAugSettings
from scripts.bench.turns import race

FACES, SIDE, REPEATS = 30, 256, 5


def fas_aug_benchmark() -> list[dict[str, Any]]:
    """Milliseconds of processor time a face of 256 pixels takes; `crc` is of the pictures, alike in every run."""
    faces = np.random.default_rng(0).integers(0, 256, (FACES, SIDE, SIDE, 3), dtype=np.uint8)
    contenders = {name: _timed(_operator(operator, faces)) for name, operator in OPERATORS.items()}
    contenders |= {
        f"half of the faces, {operators} in turn": _timed(_policy(FasAugSettings(operators=operators), faces))
        for operators in (1, 2)
    }
    timings = race(contenders, REPEATS, warm=True, measured=lambda result: result[0])
    rows = []
    for name, seconds in timings.medians.items():
        sums = {found for _, found in timings.results[name]}
        crc = f"{sums.pop():08x}" if len(sums) == 1 else "differs"
        rows.append({"benchmark": "fas-aug", "changes": name, "ms per face": 1000 * seconds / FACES, "crc": crc})
    return rows


def _timed(run: Callable[[], int]) -> Callable[[], tuple[float, int]]:
    """`run` with its seconds of processor time, which other work on the machine changes less."""

    def timed() -> tuple[float, int]:
        start = time.process_time()
        result = run()
        return time.process_time() - start, result

    return timed


def _operator(operator: Operator, faces: np.ndarray) -> Callable[[], int]:
    def run() -> int:
        drawn = (operator.draw(operator.high, stream(number, "bench")) for number in range(FACES))
        return zlib.crc32(np.stack([change(face) for change, face in zip(drawn, faces, strict=True)]).tobytes())

    return run


def _policy(settings: FasAugSettings, faces: np.ndarray) -> Callable[[], int]:
    maker, zeros = FasAug(settings, 0), np.zeros(FACES, dtype=np.int64)

    def run() -> int:
        changed = faces.copy()
        maker.apply(maker.plan(0, zeros, zeros), 0, np.arange(FACES), changed)
        return zlib.crc32(changed.tobytes())

    return run
