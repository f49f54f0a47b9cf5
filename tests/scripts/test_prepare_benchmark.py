"""The benchmarks of `agfas prepare` at a size of seconds: their contenders make the same, and memory stays flat."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pipelines.errors import AgfasError
from scripts.bench.prepare import benchmark_with, draw_pictures, prepare_benchmark
from scripts.bench.prepare_memory import MiddleFace, memory_benchmark


@pytest.mark.slow
def test_stages_and_jobs_make_the_same():
    rows = {row["contender"]: row for row in benchmark_with(MiddleFace, count=3, repeats=1)}
    stages = ["decode", "detect", "align, measure", "encode", "write"]
    assert list(rows) == [*stages, "stages together", "job, 1 process", "job, 2 processes"]
    parts = sum(rows[name]["clock_ms"] for name in stages)
    assert rows["stages together"]["clock_ms"] == pytest.approx(parts, abs=0.1)
    for name in ("stages together", "job, 1 process", "job, 2 processes"):
        assert (rows[name]["faces"], rows[name]["refused"], rows[name]["equal"]) == (3, 0, True)


def test_the_pictures_are_of_the_size_and_differ(tmp_path):
    draw_pictures(tmp_path / "pictures", 3)
    pictures = [np.asarray(Image.open(path)) for path in sorted((tmp_path / "pictures").iterdir())]
    assert {picture.shape for picture in pictures} == {(480, 640, 3)}
    assert not np.array_equal(pictures[0], pictures[1])


def test_missing_weights_are_said():
    with pytest.raises(AgfasError, match=r"--weights yunet\.onnx"):
        prepare_benchmark()


@pytest.mark.slow
def test_memory_stays_flat_over_thousands_of_pictures():
    """Of a picture, whose crop has 12,288 bytes, the parent keeps its name and what copies are known by."""
    rows = {row["process"]: row for row in memory_benchmark(4000)}
    assert rows["largest worker"]["bytes_of_a_further_picture"] < 1500
    assert rows["parent"]["bytes_of_a_further_picture"] < 6000
