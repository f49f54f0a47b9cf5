"""Simulated attacks: functions of their face and the seed, persons in their splits, one camera for both classes."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines.data.records import load_faces, read_card
from pipelines.errors import AgfasError
from pipelines.stages import simulate as stage
from pipelines.synthetic import simulation
from pipelines.synthetic.benchmark import build
from pipelines.synthetic.pairs import SourceFace, live_faces, plan_pairs
from pipelines.synthetic.recapture import CAMERAS, View, draw_camera, held, moved_onto, warped
from pipelines.synthetic.settings import ATTACKS, SimulationSettings, SyntheticSettings
from pipelines.synthetic.simulation import Simulation, camera_of

SIDE = 32
DRAWN = SyntheticSettings(
    size=SIDE, domains=("webcam",), subjects=5, live_videos=1, attack_videos=1, frames=2, corpus_subjects=0
)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten live faces of five persons, and as many attacks."""
    return build(DRAWN, tmp_path_factory.mktemp("source") / "faces")


@pytest.fixture(scope="module")
def made(source: Path) -> Path:
    """A dataset of two pairs of each face."""
    stage.run(source, source.parent / "simulated", {"per_face": 2, "cameras": 2, "seed": 3})
    return source.parent / "simulated"


def planned(source: Path, **settings: object) -> Simulation:
    return Simulation(source, Path("nowhere"), SimulationSettings(**settings))


def face(number: int = 0, landmarks: bool = True, **more: object) -> SourceFace:
    points = np.array([(11, 9), (21, 9), (16, 16), (12, 23), (20, 23)], dtype=float)
    key = f"d/p{number}/v{number}/000"
    found = SourceFace(number, key, "d", f"p{number}", f"v{number}", 0, "train", points if landmarks else None)
    return replace(found, **more)


def test_a_dataset_holds_both_classes_of_every_live_face_by_every_camera(made):
    rows, card = load_faces(made).remove_columns("image").to_list(), read_card(made)
    assert [row["label"] for row in rows] == [1, 0] * 20
    assert len({row["key"] for row in rows}) == 40
    for live, attack in zip(rows[::2], rows[1::2], strict=True):
        for name in ("domain", "subject", "frame", "split"):
            assert live[name] == attack[name]
        assert live["attack_type"] == "none"
        assert attack["attack_type"] in ATTACKS
    assert {row["domain"] for row in rows} == {"webcam-camera0", "webcam-camera1"}
    assert (card["kind"], card["licence"]) == ("simulated", "Apache-2.0")  # as that of the drawn faces
    assert card["source"] == read_card(made.parent / "faces")["fingerprint"]
    assert sum(card["attacks"].values()) == 20
    assert card["simulated"] == ["webcam-camera0", "webcam-camera1"]
    assert card["refused"] == 0
    assert (made / "refused.csv").read_text() == "key,reason\n"
    assert (made / "contact_sheet.png").is_file()


def test_persons_keep_their_splits(source, made):
    before, after = load_faces(source), load_faces(made)
    splits = dict(zip(before["subject"][:], before["split"][:], strict=True))
    assert dict(zip(after["subject"][:], after["split"][:], strict=True)) == splits


def test_pictures_are_functions_of_their_face_whatever_the_order_the_process_and_the_other_settings(source, made):
    stored = {face["key"]: np.asarray(face["image"]) for face in load_faces(made)}
    sent = pickle.loads(pickle.dumps(planned(source, per_face=2, cameras=2, seed=3)))
    records = sent.block(0)[::-1]
    for pair, record in zip(sent.plan.pairs[::-1], records[::2], strict=True):
        picture, landmarks = sent.picture(pair, pair.kind)
        assert np.array_equal(picture, stored[record["key"]])
        assert landmarks.tolist() == record["landmarks"]
    fewer = planned(source, cameras=2, seed=3)
    for pair in fewer.plan.pairs[:3]:
        assert np.array_equal(fewer.picture(pair, "none")[0], sent.picture(pair, "none")[0])
    assert planned(source, cameras=2, seed=4).identity != fewer.identity != sent.identity


def test_an_unfinished_dataset_goes_on_where_it_was_killed(source, made, tmp_path, monkeypatch):
    monkeypatch.setattr(simulation, "_PAIRS_A_BLOCK", 8)
    settings = SimulationSettings(per_face=2, cameras=2, seed=3)
    drawn, block = [], Simulation.block

    def stopping(self, number, last=1):
        if len(drawn) == last:
            raise KeyboardInterrupt
        drawn.append(number)
        return block(self, number)

    monkeypatch.setattr(Simulation, "block", stopping)
    with pytest.raises(KeyboardInterrupt):
        simulation.simulate(source, tmp_path / "out", settings, workers=1)
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(Simulation, "block", lambda self, number: stopping(self, number, 9))
    out = simulation.simulate(source, tmp_path / "out", settings, workers=1)
    assert drawn == [0, 1, 2]
    whole, resumed = load_faces(made), load_faces(out)
    assert resumed["key"][:] == whole["key"][:]
    assert [one.tobytes() for one in resumed["image"]] == [one.tobytes() for one in whole["image"]]
    assert (out / "face_dataset.json").read_bytes() == (made / "face_dataset.json").read_bytes()


@pytest.mark.parametrize("kind", ATTACKS)
def test_every_attack_changes_the_face_and_keeps_its_place(source, kind):
    drawn = planned(source, attacks=[kind])
    apart = []
    for pair in drawn.plan.pairs[:4]:
        (live, points), (attack, moved) = drawn.picture(pair, "none"), drawn.picture(pair, kind)
        assert live.shape == attack.shape == (SIDE, SIDE, 3)
        assert live.dtype == attack.dtype == np.uint8
        assert np.abs(points - moved).max() < 0.15 * SIDE
        assert ((moved > 0) & (moved < SIDE)).all()
        middle = np.s_[SIDE // 4 : -SIDE // 4, SIDE // 4 : -SIDE // 4]
        apart.append(np.abs(live[middle].astype(int) - attack[middle]).mean())
        assert np.corrcoef(live[middle].mean(axis=2).ravel(), attack[middle].mean(axis=2).ravel())[0, 1] > 0.2
    assert min(apart) > 1.0


def test_both_pictures_of_a_pair_are_taken_by_one_camera(source, monkeypatch):
    taken = []
    monkeypatch.setattr(
        simulation, "capture", lambda light, camera, *_: taken.append(camera) or np.zeros((SIDE, SIDE, 3), np.uint8)
    )
    drawn = planned(source, attacks=["print", "replay"])
    for pair in drawn.plan.pairs:
        drawn.picture(pair, "none")
        drawn.picture(pair, pair.kind)
    assert taken[::2] == taken[1::2]
    frames = drawn.plan.pairs[:2]  # of one video
    assert frames[0].face.video == frames[1].face.video
    assert camera_of(frames[0], 0) == camera_of(frames[1], 0)
    assert frames[0].kind == frames[1].kind


def test_both_pictures_of_a_pair_are_seen_in_one_light(source, monkeypatch):
    drawn, numbers = planned(source, attacks=["print", "mask_resin"]), []
    monkeypatch.setattr(simulation, "lit", lambda view, rng: numbers.append(rng.random()) or view)
    for pair in drawn.plan.pairs:
        drawn.picture(pair, "none")
        drawn.picture(pair, pair.kind)
    assert numbers[::2] == numbers[1::2]
    assert len(set(numbers)) == len({pair.face.video for pair in drawn.plan.pairs})


def test_a_camera_has_a_part_of_the_ranges_of_its_own_and_all_light_and_tone():
    drawn = draw_camera(np.random.default_rng(0), 0.25)
    for name in ("blur", "shot", "quality"):
        (low, high), (least, most) = getattr(drawn, name), getattr(CAMERAS, name)
        assert least <= low <= high <= most
        assert high - low == pytest.approx((most - least) / 4)
    for name in ("exposure", "warmth", "saturation", "gamma"):
        assert getattr(drawn, name) == getattr(CAMERAS, name)
    assert draw_camera(np.random.default_rng(1)) != draw_camera(np.random.default_rng(2))


def test_a_blend_and_a_cutout_take_a_face_of_another_person_of_the_same_split():
    faces = [face(number, split="train" if number % 2 else "dev") for number in range(8)]
    plan = plan_pairs(faces, SimulationSettings(attacks=["blend", "cutout"], per_face=4))
    for pair in plan.pairs:
        assert pair.partner is not None
        assert pair.partner.split == pair.face.split
        assert pair.partner.subject != pair.face.subject
    alone = [face(0), face(0, video="w", key="d/p0/w/000"), face(1, split="dev")]
    with pytest.raises(AgfasError, match="blend needs a face of another person"):
        plan_pairs(alone, SimulationSettings(attacks=["blend"]))
    assert {pair.partner for pair in plan_pairs(alone, SimulationSettings(attacks=["cutout"])).pairs} == {None}


def test_faces_without_landmarks_are_printed_and_replayed_or_refused():
    faces = [face(0), face(1, landmarks=False), face(2, landmarks=False)]
    plan = plan_pairs(faces, SimulationSettings(per_face=20))
    assert {pair.kind for pair in plan.pairs if pair.face.landmarks is None} == {"print", "replay"}
    assert plan.refused == []
    masks = plan_pairs(faces, SimulationSettings(attacks=["mask_resin"]))
    assert masks.refused == [(f"d/p{n}/v{n}/000", "mask_resin needs landmarks") for n in (1, 2)]
    with pytest.raises(AgfasError, match=r"None of the 2 live faces fits.*--attacks print,replay"):
        plan_pairs(faces[1:], SimulationSettings(attacks=["mask_paper"]))


def test_a_mistake_is_answered_with_the_fix(source, tmp_path):
    with pytest.raises(AgfasError, match=r"there is no attack 'mask': did you mean 'mask_\w+'\?"):
        stage.run(source, tmp_path / "out", {"attacks": ["mask"]})
    with pytest.raises(AgfasError, match="has no domain 'web': did you mean 'webcam'"):
        stage.run(source, tmp_path / "out", {"domains": ["web"]})
    with pytest.raises(AgfasError, match="cameras"):
        stage.run(source, tmp_path / "out", {"cameras": 0})
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    with pytest.raises(AgfasError, match="is not a simulated dataset"):
        simulation.simulate(source, tmp_path / "notes", SimulationSettings())


def test_a_dataset_without_live_faces_is_refused(source, monkeypatch):
    monkeypatch.setattr("pipelines.synthetic.pairs.BONAFIDE", 7)
    with pytest.raises(AgfasError, match=r"has no live face of the domains webcam.*--importer live"):
        live_faces(source, ["webcam"])


def test_landmarks_that_form_no_face_count_as_none(source):
    from pipelines.synthetic.pairs import usable

    points = face().landmarks
    assert points is not None
    assert np.array_equal(usable(points.tolist()), points)
    for wrong in (np.full((5, 2), np.nan), np.zeros((5, 2)), points[[1, 0, 2, 4, 3]], points[:4]):
        assert usable(wrong) is None


def test_a_view_is_where_its_landmarks_say():
    crop = np.full((SIDE, SIDE, 3), 40, dtype=np.uint8)
    points = face().landmarks
    for x, y in points[:2].astype(int):
        crop[y - 1 : y + 2, x - 1 : x + 2] = 250
    view = held(crop, points, 2 * SIDE, np.array([[1.03, 0.02], [0.0, 0.97]]), np.random.default_rng(1))
    bright = np.argwhere(view.picture.mean(axis=0) > 0.6)[:, ::-1] + 0.5
    left = bright[bright[:, 0] < SIDE].mean(axis=0)
    assert left == pytest.approx(view.landmarks[0] * 2 * SIDE, abs=1.0)
    # The paper's coordinates of the landmarks are those of the crop.
    x, y = (view.landmarks[2] * 2 * SIDE).astype(int)
    assert (view.a[y, x], view.b[y, x]) == pytest.approx((points[2] + 0.5) / SIDE, abs=0.02)


def test_a_similarity_of_fractions_lays_points_on_others():
    points, turn = face().landmarks / SIDE, np.array([[0.8, -0.3], [0.3, 0.8]])
    matrix = moved_onto(points, points @ turn.T + (0.1, 0.05))
    assert matrix == pytest.approx(np.column_stack([turn, (0.1, 0.05)]))
    assert warped(np.full((8, 8, 3), 255, np.uint8), np.eye(2, 3)) == pytest.approx(np.ones((3, 8, 8)))


def test_the_light_of_a_print_is_duller_than_that_of_the_face_and_a_mask_leaves_the_background():
    from pipelines.synthetic.recapture import printed_light
    from pipelines.synthetic.worn import fitted_head, resin_mask_light

    rng = np.random.default_rng(0)
    picture = rng.random((3, 64, 64), dtype=np.float32)
    at = (np.arange(64, dtype=np.float32) + 0.5) / 64
    a, b = np.meshgrid(at, at)
    view = View(picture, face().landmarks / SIDE, a, b)
    prints = [printed_light(view, np.random.default_rng(seed)) for seed in range(4)]
    assert max(light.std() for light in prints) < view.light.std()
    head = fitted_head(view, np.random.default_rng(5))
    masked = resin_mask_light(view, np.random.default_rng(5))
    outside = head.face() == 0
    assert 0.2 < outside.mean() < 0.9
    assert np.array_equal(masked[:, outside], view.light[:, outside])
    eyes = head.holes(0.5, 0.0) > 0.99
    assert eyes.any()
    assert masked[:, eyes] == pytest.approx(view.light[:, eyes], abs=1e-5)
