"""The benchmark's pictures are those of its version: who changes one raises `GENERATOR_VERSION` and draws them anew.

    PYTHONPATH=. python tests/pipelines/synthetic/test_drawn_as_before.py

Another processor may round another way, so a face may differ in a few pixels. Every number of the drawing is in here:
half of the videos of a small benchmark, all domains and attacks; and the colours and textures that FAS-Aug draws with.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipelines.synthetic.benchmark import GENERATOR_VERSION, plan_videos
from pipelines.synthetic.colour import PRESSES, RGB_SPACES, between_spaces, printed
from pipelines.synthetic.settings import SyntheticSettings
from pipelines.synthetic.textures import SCREENS, blue_noise, scene, screen_tile
from pipelines.synthetic.videos import shoot

STORED = Path(__file__).with_name("drawn_faces.npz")
SETTINGS = SyntheticSettings(subjects=5, live_videos=1, attack_videos=3, frames=2, corpus_subjects=12, corpus_images=1)
SIZE = 24


def drawn() -> dict[str, np.ndarray]:
    """Pictures (n, S, S, 3) uint8 and landmarks (n, 5, 2), and the names of their videos (n,)."""
    videos = plan_videos(SETTINGS)
    shown = [(video, *shoot(video, SETTINGS.seed, SIZE)) for video in (*videos[:80:2], *videos[80:])]
    names = [f"{video.domain} {video.name} {video.split}" for video, _, landmarks in shown for _ in landmarks]
    pictures, landmarks = (np.concatenate([each[place] for each in shown]) for place in (1, 2))
    return {"pictures": pictures, "landmarks": landmarks, "names": np.array(names)}


def textures() -> dict[str, np.ndarray]:
    """One picture in every space and from every press, every screen's tile, and some of the noise and of two scenes."""
    picture = np.random.default_rng(0).integers(0, 256, (4, 8, 3), dtype=np.uint8)
    spaces = [between_spaces(picture, "srgb", name) for name in RGB_SPACES]
    presses = [printed(picture, name, "srgb") for name in PRESSES]
    tiles = [screen_tile(name)[::2, ::2].reshape(-1, 3) for name in SCREENS]
    return {
        "colours": np.stack([*spaces, *presses]),
        "tiles": np.concatenate(tiles),
        "noise": blue_noise()[::16, ::16],
        "scenes": np.stack([scene.__wrapped__(number)[::6, ::6] for number in (0, 7)]),
    }


def test_the_benchmark_is_drawn_as_before():
    with np.load(STORED) as before:
        assert int(before["version"]) == GENERATOR_VERSION
        now = drawn()
        assert now["names"].tolist() == before["names"].tolist()
        np.testing.assert_allclose(now["landmarks"], before["landmarks"], atol=1e-3)
        differing = (now["pictures"] != before["pictures"]).any(axis=3).mean(axis=(1, 2))
    others = [str(name) for name, share in zip(now["names"], differing, strict=True) if share > 0.02]
    assert others == [], "raise GENERATOR_VERSION, and draw them anew as this file says"


def test_colours_and_textures_are_drawn_as_before():
    with np.load(STORED) as before:
        for name, values in textures().items():
            apart = np.abs(values.astype(int) - before[name])
            assert apart.max() <= 1, name
            assert (apart > 0).mean() < 0.01, name


if __name__ == "__main__":
    np.savez_compressed(STORED, version=GENERATOR_VERSION, **drawn(), **textures())
