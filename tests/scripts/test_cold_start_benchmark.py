"""The models of `bench.py cold-start` can be saved, and are judged by."""

from __future__ import annotations

import pytest

from pipelines.verdict import FaceAntiSpoofing
from scripts.bench import cold_start


@pytest.mark.slow
@pytest.mark.parametrize(("detector", "restores"), cold_start.MODELS.values())
def test_a_model_of_the_benchmark_judges(tmp_path, detector, restores):
    cold_start.save_untrained(tmp_path / "model", detector, restores)
    opened = FaceAntiSpoofing.from_pretrained(tmp_path / "model")
    assert 0 <= opened.rehearse().score <= 1


def test_a_process_is_measured_to_its_end():
    seconds, megabytes = cold_start._measured("-c", "sum(range(10**6)); bytearray(2 * 10**7)")
    assert 0 < seconds < 5
    assert megabytes > 19
