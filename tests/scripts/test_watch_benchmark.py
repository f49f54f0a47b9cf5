"""What `bench.py watch` counts, and that its stream is one."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from pipelines.data.cameras import live_source, pictures_of
from pipelines.errors import AgfasError
from pipelines.verdict.sightings import FollowedFace, Sighting
from scripts.bench import watch

FACE = FollowedFace(1, "live", 0.75, 0.5, 4, 0.25, (1.0, 2.0, 30.0, 40.0), 1.5)


class Model:
    """Is shown `count` pictures, four in five of which are dropped."""

    def __init__(self, count: int) -> None:
        self.count = count

    def watch(self, address, pace):
        blank = Sighting("", 0.0, "connected", "camera 0", "", (), "EER", None, 0, 0)
        yield blank
        for number in range(1, self.count + 1):
            time.sleep(0.001)
            face = replace(FACE, id=1 + (number > 20))
            yield replace(
                blank, state="verdict", tracks=(face,), latency=number / 100, judged=number, dropped=4 * number
            )


def test_what_is_counted():
    row = watch._measured(Model(25), "nowhere", 5.0, 1.0)
    assert (row["most_a_second"], row["dropped_share"], row["tracks"]) == (5.0, 0.8, 2)
    assert row["latency_median"] == 0.16  # of 0.06 to 0.25
    assert row["latency_p95"] == 0.24
    assert 0 < row["judged_a_second"] <= 1000
    assert watch._measured(Model(9), "nowhere", 1000.0, 1.0)["most_a_second"] == "no limit"


def test_too_few_pictures_are_no_measurement():
    with pytest.raises(AgfasError, match="Only 3 pictures were judged in 1 s"):
        watch._measured(Model(3), "nowhere", 5.0, 1.0)


@pytest.mark.slow
def test_its_stream_can_be_watched():
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    with watch._sent(watch._moving(picture)) as address:
        source = live_source(address)
        assert source is not None
        found = [make() for make, _ in zip(pictures_of(source, 30.0), range(5), strict=False)]
    assert found[0].shape == (48, 64, 3)
