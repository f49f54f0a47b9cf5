"""The built-in benchmark: same seed, same bytes; subjects apart; pictures that carry their labels."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from pipelines.data.protocol_settings import CORPUS
from pipelines.data.records import CARD_NAME, COLUMNS, load_faces, read_card
from pipelines.data.sheet import contact_sheet
from pipelines.errors import AgfasError
from pipelines.fingerprint import fingerprint
from pipelines.synthetic import benchmark, drawing
from pipelines.synthetic.benchmark import benchmark_fingerprint, build, plan_videos, render_faces
from pipelines.synthetic.settings import DOMAINS, SyntheticSettings
from pipelines.synthetic.videos import shoot

TINY = SyntheticSettings(
    size=32, subjects=5, live_videos=1, attack_videos=2, frames=2, corpus_subjects=3, corpus_images=2
)

HASH_SCRIPT = """
import hashlib
from pipelines.synthetic.benchmark import plan_videos, render_faces
from pipelines.synthetic.settings import SyntheticSettings
settings = SyntheticSettings.model_validate_json('''{settings}''')
pictures, _ = render_faces(plan_videos(settings), settings.seed, settings.size)
print(hashlib.sha256(pictures.tobytes()).hexdigest())
"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(TINY, tmp_path_factory.mktemp("synthetic") / "faces")


def _digest(pictures: np.ndarray) -> str:
    return hashlib.sha256(pictures.tobytes()).hexdigest()


def test_same_seed_gives_same_bytes_in_another_process_and_in_any_order() -> None:
    videos = plan_videos(TINY)
    backwards = [render_faces([video], TINY.seed, TINY.size)[0] for video in reversed(videos)]
    here = _digest(np.concatenate(backwards[::-1]))
    script = HASH_SCRIPT.format(settings=TINY.model_dump_json())
    there = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert there.stdout.strip() == here


def test_built_dataset_holds_the_rendered_bytes_whatever_the_workers(dataset: Path, tmp_path: Path) -> None:
    faces = load_faces(str(dataset))  # a path or its text, as `agfas.load_dataset` takes them
    pictures, records = render_faces(plan_videos(TINY), TINY.seed, TINY.size)
    stored = np.stack([np.asarray(picture) for picture in faces["image"]])
    assert np.array_equal(stored, pictures)
    assert faces["key"][:] == [record["key"] for record in records]
    assert tuple(sorted(faces.column_names)) == tuple(sorted(COLUMNS))


def test_a_killed_build_goes_on_and_helpers_draw_the_same_bytes(dataset, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(drawing, "_FACES_WORTH_HELPERS", 0)
    drawn = []

    def draw(videos, seed, size, last=1):
        if len(drawn) == last:
            raise KeyboardInterrupt
        drawn.append(videos)
        return render_faces(videos, seed, size)

    monkeypatch.setattr(benchmark, "render_faces", draw)
    with pytest.raises(KeyboardInterrupt):
        build(TINY, tmp_path / "faces", workers=1)
    assert not (tmp_path / "faces").exists()
    monkeypatch.setattr(benchmark, "render_faces", partial(draw, last=99))
    made = build(TINY, tmp_path / "faces", workers=2)
    assert drawn.count(drawn[0]) == 1
    for name in (CARD_NAME, "data-00000-of-00001.arrow"):
        assert (made / name).read_bytes() == (dataset / name).read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["faces"]


def test_videos_do_not_depend_on_how_many_others_there_are() -> None:
    more = TINY.model_copy(update={"subjects": 7, "frames": 3, "corpus_subjects": 5})
    by_name = {video.name: video for video in plan_videos(more)}
    live = next(video for video in plan_videos(TINY) if video.attack_type == "none")
    few, _ = shoot(live, TINY.seed, TINY.size)
    many, _ = shoot(by_name[live.name], more.seed, more.size)
    assert np.array_equal(few, many[:2])


def test_another_seed_gives_other_faces() -> None:
    video = plan_videos(TINY)[0]
    one, other = (shoot(video, seed, 32)[0].astype(int) for seed in (0, 1))
    assert np.abs(one - other).mean() > 8


def test_subjects_never_cross_splits_or_domains() -> None:
    settings = SyntheticSettings()
    seen: dict[str, set[tuple[str, str]]] = {}
    for video in plan_videos(settings):
        seen.setdefault(video.subject, set()).add((video.domain, video.split))
    assert all(len(places) == 1 for places in seen.values())
    splits = [next(iter(places)) for places in seen.values()]
    for domain in DOMAINS:
        assert [splits.count((domain, split)) for split in ("train", "dev", "test")] == [18, 6, 6]
    assert [splits.count((CORPUS, split)) for split in ("train", "dev", "test")] == [270, 30, 0]


@pytest.mark.parametrize("subjects", [5, 6, 7, 8, 13])
def test_every_split_of_every_domain_has_subjects(subjects: int) -> None:
    videos = plan_videos(TINY.model_copy(update={"subjects": subjects}))
    found = {(video.domain, video.split) for video in videos if video.domain != CORPUS}
    assert found == {(domain, split) for domain in DOMAINS for split in ("train", "dev", "test")}


def test_keys_are_unique_and_the_corpus_is_live(dataset: Path) -> None:
    faces = load_faces(dataset)
    assert len(set(faces["key"])) == len(faces)
    corpus = faces.filter(lambda domain: domain == CORPUS, input_columns="domain")
    assert set(corpus["label"]) == {1}
    assert set(corpus["attack_type"]) == {"none"}
    live = [kind == "none" for kind in faces["attack_type"]]
    assert [label == 1 for label in faces["label"]] == live


def test_card_counts_what_is_there(dataset: Path) -> None:
    card = read_card(dataset)
    numbers = [n for kinds in card["counts"].values() for splits in kinds.values() for n in splits.values()]
    assert sum(numbers) == card["faces"] == len(load_faces(dataset))
    assert card["fingerprint"] == benchmark_fingerprint(TINY)
    assert SyntheticSettings.model_validate(card["settings"]) == TINY


def test_the_card_is_exact_and_the_fingerprint_is_that_of_version_1(dataset: Path) -> None:
    card = json.loads((dataset / CARD_NAME).read_text())
    settings = {
        **{"seed": 0, "size": 32, "domains": list(DOMAINS), "subjects": 5, "live_videos": 1, "attack_videos": 2},
        **{"frames": 2, "corpus_subjects": 3, "corpus_images": 2},
    }
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for video in plan_videos(TINY):
        kinds = counts.setdefault(video.domain, {}).setdefault(video.attack_type, {})
        kinds[video.split] = kinds.get(video.split, 0) + video.frames
    assert card == {
        "fingerprint": fingerprint({"generator": 1, "settings": settings}),
        "kind": "synthetic",
        "generator_version": 1,
        "settings": settings,
        "faces": 4 * 5 * 3 * 2 + 3 * 2,
        "counts": counts,
    }
    # `datasets` keeps what other tests select there.
    assert {path.name for path in dataset.iterdir() if not path.name.startswith("cache-")} == {
        "data-00000-of-00001.arrow", "dataset_info.json", CARD_NAME, "state.json", "sums.json"
    }  # fmt: skip


def test_videos_are_named_and_counted_by_the_settings() -> None:
    videos = plan_videos(TINY.model_copy(update={"live_videos": 2, "frames": 4}))
    first = [video for video in videos if video.subject == "phone003"]
    assert [video.name for video in first[:2]] == ["phone003-live-0", "phone003-live-1"]
    kinds = [video.attack_type for video in first[2:]]
    assert [video.name for video in first[2:]] == [f"phone003-{kind}-{n}" for n, kind in enumerate(kinds)]
    assert {(video.domain, video.frames) for video in first} == {("phone", 4)}
    assert [v.name for v in videos[-6:]] == [f"corpus000{s}-live-{n}" for s in range(3) for n in range(2)]
    assert {(v.domain, v.frames, v.attack_type) for v in videos[-6:]} == {(CORPUS, 1, "none")}
    assert list(dict.fromkeys(video.domain for video in videos)) == [*DOMAINS, CORPUS]
    # Of 18 and 6 of 30 subjects, which ones: at random, and for ever the same.
    dealt = benchmark._splits(0, "phone", [f"s{number}" for number in range(10)], (0.6, 0.2))
    assert "".join(dealt[f"s{number}"][-1] for number in range(10)) == "tnvnnnvtnn"  # traiN, deV, tesT
    assert list(benchmark._splits(1, "d", ["a", "b", "c"], (0.9, 0.1)).values()).count("train") == 3


def test_records_say_what_a_face_is() -> None:
    video = next(video for video in plan_videos(TINY) if video.attack_type == "print")
    pictures, records = render_faces([video, plan_videos(TINY)[0]], TINY.seed, 32)
    assert pictures.shape == (4, 32, 32, 3)
    _, landmarks = shoot(video, TINY.seed, 32)
    assert records[1] == {
        **{"key": f"{video.domain}/{video.subject}/{video.name}/001", "label": 0, "attack_type": "print", "frame": 1},
        **{"domain": video.domain, "subject": video.subject, "video": video.name, "split": video.split},
        "landmarks": landmarks[1].tolist(),
    }
    assert [record["label"] for record in records] == [0, 0, 1, 1]
    stored = drawing.encoded(pictures[0])
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(stored["bytes"]))), pictures[0])
    assert stored["path"] is None


@pytest.mark.parametrize(
    ("faces", "workers", "cores", "helpers"),
    [(1498, None, 4, 0), (1500, None, 4, 3), (1500, None, 64, 7), (1500, 3, 64, 2), (1500, None, 1, 0)],
)
def test_helpers_are_started_where_they_are_worth_it(tmp_path, monkeypatch, faces, workers, cores, helpers) -> None:
    """One process fewer than cores, eight in all at most, for 1500 faces and more."""
    pools, drawn = [], []

    class Pool:
        def __init__(self, count, context, setup) -> None:
            pools.append((count, context.get_start_method(), setup))

        def __enter__(self):
            return self

        def __exit__(self, *problem) -> None:
            pass

        def submit(self, draw, what, shown):
            drawn.append(shown)
            return SimpleNamespace(result=lambda: drawn.append("waited"))

    monkeypatch.setattr(drawing, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(drawing, "threads", lambda: cores)
    monkeypatch.setattr(drawing, "draw_share", lambda what, shown: drawn.append(shown))
    monkeypatch.setattr(benchmark, "plan_videos", lambda settings: [SimpleNamespace(frames=faces // 2)] * 2)
    (tmp_path / "out").mkdir()
    assert build(TINY, tmp_path / "out", workers) == tmp_path / "out"
    assert not (tmp_path / "out").exists()  # it was empty
    assert pools == [(max(1, helpers), "spawn", drawing.stand_alone)]
    assert drawn == [False] * helpers + [True] + ["waited"] * helpers


def test_finished_folder_is_kept_and_another_is_refused(dataset: Path, tmp_path: Path) -> None:
    before = (dataset / CARD_NAME).stat().st_mtime_ns
    assert build(TINY, dataset) == dataset
    assert (dataset / CARD_NAME).stat().st_mtime_ns == before
    with pytest.raises(AgfasError, match="other settings"):
        build(TINY.model_copy(update={"seed": 1}), dataset)
    prepared = tmp_path / "prepared"
    prepared.mkdir()
    (prepared / CARD_NAME).write_text(json.dumps({"kind": "prepared", "fingerprint": "0123"}))
    with pytest.raises(AgfasError, match=r"face dataset of another kind, not a benchmark\. Give another folder\.$"):
        build(TINY, prepared)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(AgfasError, match="is not a benchmark"):
        build(TINY, tmp_path)
    assert [path.name for path in dataset.parent.iterdir()] == [dataset.name]


def test_eyes_are_where_the_landmarks_say() -> None:
    """Pupils are darker than the skin half an eye's distance below them."""
    darker = []
    for video in plan_videos(SyntheticSettings(subjects=5, frames=1, corpus_subjects=0)):
        if video.attack_type != "none":
            continue
        pictures, landmarks = shoot(video, 0, 64)
        for picture, points in zip(pictures, landmarks, strict=True):
            grey = picture.mean(axis=2)
            for x, y in points[:2]:
                column, row = int(x), int(y)
                eye = grey[row - 1 : row + 2, column - 1 : column + 2].min()
                darker.append(eye < grey[row + 9 : row + 12, column - 1 : column + 2].mean())
    assert np.mean(darker) > 0.85


def test_landmarks_follow_the_alignment_template() -> None:
    videos = [video for video in plan_videos(SyntheticSettings(subjects=5)) if video.domain == CORPUS][:40]
    _, records = render_faces(videos, 0, 64)
    mean = np.mean([record["landmarks"] for record in records], axis=0) / 64
    template = [[0.349, 0.285], [0.661, 0.285], [0.5, 0.496], [0.378, 0.722], [0.622, 0.722]]
    assert np.abs(mean - template).max() < 0.06


def test_a_subject_looks_more_like_himself_than_like_others() -> None:
    settings = SyntheticSettings(corpus_subjects=16, corpus_images=3)
    videos = [video for video in plan_videos(settings) if video.domain == CORPUS]
    pictures, records = render_faces(videos, 0, 32)
    grey = pictures.mean(axis=3).reshape(len(videos), -1)
    grey = (grey - grey.mean(axis=1, keepdims=True)) / grey.std(axis=1, keepdims=True)
    likeness = grey @ grey.T / grey.shape[1]
    subject = np.array([record["subject"] for record in records])
    same = subject[:, None] == subject[None, :]
    others = ~same
    np.fill_diagonal(same, False)
    assert likeness[same].mean() > likeness[others].mean() + 0.1


def test_prints_carry_more_structure_than_their_sources() -> None:
    """The halftone is there: taking its dots away lowers the high-pass energy."""
    from pipelines.synthetic import attacks
    from pipelines.synthetic.domains import PAD_DOMAINS

    how = attacks.draw_print(np.random.default_rng(0), PAD_DOMAINS["webcam"].prints, 1.0)
    at = (np.arange(128, dtype=np.float32) + 0.5) / 128
    a, b = np.meshgrid(at, at)
    flat = np.full((3, 128, 128), 0.5, dtype=np.float32)
    plain = dataclasses.replace(how, dots=0.0, border=0.0)
    dotted = dataclasses.replace(how, dots=0.8, border=0.0)
    light = np.ones(3)
    assert (
        attacks.print_light(flat, dotted, a, b, light).std() > 3 * attacks.print_light(flat, plain, a, b, light).std()
    )


def test_contact_sheet_shows_every_domain(dataset: Path, tmp_path: Path) -> None:
    path = contact_sheet(load_faces(dataset), tmp_path / "sheet.png")
    with Image.open(path) as sheet:
        assert sheet.height == 8 + 5 * (4 * 128 + 18)
        assert np.asarray(sheet).std() > 20
    assert [file.name for file in tmp_path.iterdir()] == ["sheet.png"]


@pytest.mark.parametrize("wrong", [{"sise": 64}, {"size": 33}, {"domains": ["webcam", "webcam"]}, {"domains": ["tv"]}])
def test_wrong_settings_are_refused(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        SyntheticSettings.model_validate(wrong)


def test_settings_import_nothing_heavy() -> None:
    code = "import sys, pipelines.synthetic.settings\nprint([m for m in ('numpy', 'torch', 'PIL') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout.replace("'", '"')) == []
