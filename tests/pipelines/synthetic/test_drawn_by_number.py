"""Every number of the drawing, before noise and JPEG hide it: what is drawn at random, and the light of faces.

    PYTHONPATH=. python tests/pipelines/synthetic/test_drawn_by_number.py

Stored are means of squares of 4 x 4 pixels. As in `test_drawn_as_before`, who changes a number raises
`GENERATOR_VERSION` and stores it anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.synthetic.attacks import (
    draw_mask,
    draw_print,
    draw_replay,
    plane_coordinates,
    print_light,
    replay_light,
    strength,
)
from pipelines.synthetic.camera import develop
from pipelines.synthetic.colour import PRESSES, RGB_SPACES
from pipelines.synthetic.domains import CORPUS_DOMAIN, PAD_DOMAINS, SOURCE_CAMERA, Domain
from pipelines.synthetic.features import foreshorten
from pipelines.synthetic.identity import BEARD_STYLES, GLASSES_STYLES, Identity, draw_identity, skin_texture
from pipelines.synthetic.render import SKIN, Material, render
from pipelines.synthetic.scene import (
    HeadPose,
    crop_transform,
    draw_backdrop,
    draw_light,
    draw_pose,
    head_landmarks,
    move,
    realign,
)
from pipelines.synthetic.textures import SCREENS

STORED = Path(__file__).with_name("drawn_numbers.npz")
SIDE = 40
HAIR_STYLES = ("short", "side_part", "curly", "receding", "bald", "fringe", "long")
# Turned, looking about, laughing, shouting, asleep.
POSES = (
    HeadPose(yaw=0.4, pitch=-0.15, smile=0.9, brow_raise=0.5, gaze_u=0.4, tilt=0.03, shift_x=0.01, zoom=1.02),
    HeadPose(yaw=-0.3, pitch=0.2, mouth_open=0.8, smile=-0.4, gaze_u=-1.2, gaze_v=0.3, shift_y=-0.01, zoom=0.97),
    HeadPose(yaw=0.1, pitch=0.05, mouth_open=0.25, eye_close=0.5, brow_raise=-0.3, gaze_v=-0.4),
    HeadPose(yaw=-0.05, eye_close=1.0, smile=0.3, mouth_open=1.3),
)


def plain(value: Any) -> Iterator[float]:
    """The numbers in anything, in order; of a word, some digits of its hash."""
    if isinstance(value, str):
        yield float(int.from_bytes(hashlib.sha256(value.encode()).digest()[:3], "big"))
    elif isinstance(value, dict):
        yield from (number for pair in value.items() for number in plain(pair))
    elif value is None:
        yield -1.0
    elif isinstance(value, (tuple, list, np.ndarray)):
        yield from (number for each in value for number in plain(each))
    else:
        yield float(value)


def of_domain(where: Domain, number: int) -> list[Any]:
    """Every draw of a domain."""
    rng = np.random.default_rng(number)
    strong = strength(rng)
    pose = draw_pose(rng, where.turn)
    poses = [pose, *(move(pose, rng) for _ in range(1 if number else 30)), realign(pose, rng)]
    drawn = [where.camera.draw(rng), draw_light(rng, where.side, where.key, where.warmth), *poses]
    drawn += [draw_print(rng, where.prints, strong), draw_replay(rng, where.replays, strong)]
    drawn.append(draw_mask(rng, where.masks, strong))
    return [strong, *map(astuple, drawn), astuple(draw_backdrop(rng, where.brightness, where.shapes))]


def numbers() -> dict[str, np.ndarray]:
    """All that is drawn at random, and the tables that it is drawn from."""
    domains = {**PAD_DOMAINS, "corpus": CORPUS_DOMAIN}
    drawn = {name: [of_domain(where, number) for number in range(9)] for name, where in domains.items()}
    drawn |= {f"{name} table": [astuple(where)] for name, where in domains.items()}
    drawn["colours"] = [(name, astuple(space)) for name, space in RGB_SPACES.items()]
    drawn["presses"] = [(name, astuple(inks), gain) for name, (inks, gain) in PRESSES.items()]
    drawn["screens"] = [SCREENS]
    drawn["source"] = [astuple(SOURCE_CAMERA), astuple(SOURCE_CAMERA.draw(np.random.default_rng(0)))]
    drawn["persons"] = [astuple(draw_identity(np.random.default_rng(number))) for number in range(30)]
    return {name: np.array(list(plain(values)), np.float32) for name, values in drawn.items()}


def people() -> list[Identity]:
    """A person of every hair style, beard and pair of glasses, young and old."""
    found = []
    for number in range(14):
        who = draw_identity(np.random.default_rng(100 + number))
        beard, glasses = BEARD_STYLES[number % 5], GLASSES_STYLES[number % 3]
        density, age = (0.6, 0.9)[number % 2], (0.2, 0.5, 0.95)[number % 3]
        look = {"beard": beard, "glasses": glasses, "beard_density": density, "age": age}
        found.append(replace(who, hair_style=HAIR_STYLES[number % 7], moles=3, freckles=0.5, **look))
    return found


def blocks(values: np.ndarray) -> np.ndarray:
    """Means of squares of 4 x 4 pixels of (..., S, S)."""
    *first, side, _ = values.shape
    cut = values.astype(np.float64).reshape(*first, side // 4, 4, side // 4, 4)
    return cut.mean(axis=(-3, -1)).astype(np.float32)


def lights() -> dict[str, np.ndarray]:
    """Light of faces, masks, prints and screens, and what cameras make of it."""
    faces, masks, attacks, pictures = [], [], [], []
    for number, who in enumerate(people()):
        rng, where = np.random.default_rng(number), list(PAD_DOMAINS.values())[number % 4]
        pose = POSES[number % 4]
        light = draw_light(rng, 0.8, (0.4, 0.9), (-0.3, 0.4))
        backdrop = draw_backdrop(rng, (0.1, 0.6), 6)
        to_crop = crop_transform(head_landmarks(who, pose), pose, np.array([[1.05, 0.02], [0.0, 0.96]]))
        made_of = Material(0.3, 0.6, 0.5, 0.7, 0.6, (1.1, 0.9, 1.0)) if number % 5 == 4 else SKIN
        shown = render(who, pose, light, backdrop, to_crop, SIDE, made_of)
        (masks if made_of is not SKIN else faces).append(shown)
        coarse = 1 + number % 2
        picture = develop(shown, where.camera.draw(rng), rng, SIDE // coarse)
        pictures.append(picture.repeat(coarse, 1).repeat(coarse, 2))
        plane = plane_coordinates(to_crop, np.array([[0.08, 0.01, -1.6], [-0.01, 0.08, -1.2]]), SIDE)
        encoded = np.clip(shown, 0.0, 1.0) ** np.float32(0.45)
        border = (0.0, 0.1)[number % 2]
        how = replace(draw_print(rng, where.prints, 1.1), border=border, sheen=0.1 * (number % 3))
        attacks.append(print_light(encoded, how, *plane, np.array([1.1, 1.0, 0.9])))
        screen = replace(draw_replay(rng, where.replays, 1.1), border=border, glare=(0.4, 0.6, 0.3, 0.2))
        attacks.append(replay_light(encoded, screen, *plane, frame=number % 3))
    return {
        "faces": blocks(np.stack(faces)),
        "masks": blocks(np.stack(masks)),
        "attacks": blocks(np.stack(attacks)),
        "pictures": blocks(np.stack(pictures)),
        "skin": np.stack([blocks(np.stack(skin_texture(who, 10))[:, :32, :32]) for who in people()[:4]]),
    }


def test_what_is_drawn_at_random_is_drawn_as_before():
    with np.load(STORED) as before:
        for name, found in numbers().items():
            np.testing.assert_allclose(found, before[name], rtol=1e-5, atol=1e-7, err_msg=name)


def test_light_is_as_before():
    with np.load(STORED) as before:
        for name, found in lights().items():
            np.testing.assert_allclose(found, before[name], rtol=1e-4, atol=5e-5, err_msg=name)


def test_a_feature_never_narrows_to_a_line():
    assert foreshorten(HeadPose(yaw=1.2), 1.0) == 0.55
    assert foreshorten(HeadPose(yaw=0.3), 0.0) == pytest.approx(np.cos(0.3))
    assert foreshorten(HeadPose(yaw=0.3), -1.0) == pytest.approx(np.cos(0.12) / np.cos(0.42))


if __name__ == "__main__":
    np.savez_compressed(STORED, **numbers(), **lights())
