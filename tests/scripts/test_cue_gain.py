"""Gains, trends and the quality of generators on numbers worked out by hand, and what the script refuses."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from output_folder import make_experiment, make_output, write_faces

from dfg.noise import noise_for_keys
from dfg.schedule import sd_scheduler
from pipelines.errors import AgfasError
from pipelines.evaluation.exact import Tallies, Tally
from pipelines.experiment.file import read_experiment
from pipelines.experiment.plan import expand
from pipelines.report.contents import Group
from pipelines.report.gather import read_results
from scripts.cue_gain import main
from scripts.gain import measure as measuring
from scripts.gain.gains import Gains, Judged, gain_of, sum_ends, trend
from scripts.gain.measure import comparable
from scripts.gain.page import draw, figure, write_tables
from scripts.gain.quality import Quality, grey_levels, held_out, levels, noise_loss, separation
from scripts.gain.rows import Mean, means_of, read_rows

CONFIGS = Path(__file__).parents[2] / "configs"


def judged(observed: list[float], drawn: list[list[float]], few: bool = False) -> Judged:
    values = np.array(observed)
    return Judged(values, np.array(drawn), ((float(values.mean()), (values.mean() - 0.1, values.mean() + 0.2)),), few)


def spread(middle: float, width: float) -> list[float]:
    """A thousand and one replicates, evenly spread: 95 % of them within 0.95 of the width."""
    return np.linspace(middle - width, middle + width, 1001).tolist()


def test_a_gain_is_paired_and_positive_where_the_cue_helps():
    row, control = judged([0.9, 0.8], [spread(0.9, 0.1), spread(0.8, 0.1)]), judged([0.7, 0.7], [spread(0.7, 0.1)] * 2)
    auc = gain_of(row, control, "auc")
    # What is hard in a draw is hard for both, and cancels but for the ends that have no width.
    assert auc.value == pytest.approx(0.15)
    assert auc.deviation == pytest.approx(np.std([0.2, 0.1], ddof=1))
    independent = judged([0.9, 0.8], [spread(0.9, 0.1)[::-1], spread(0.8, 0.1)[::-1]])
    found = gain_of(independent, control, "auc")
    assert (found.low, found.high) == pytest.approx((0.15 - 0.95 * 0.2, 0.15 + 0.95 * 0.2))
    hter = gain_of(independent, control, "hter")
    assert (hter.value, hter.low, hter.high) == pytest.approx((-0.15, -found.high, -found.low))


def test_few_videos_take_the_exact_intervals_of_both():
    row, control = judged([0.6], [spread(0.6, 0.1)], few=True), judged([0.4], [spread(0.4, 0.1)], few=True)
    found = gain_of(row, control, "auc")
    # Square and add: below, the row's distance to its low end and the control's to its high one.
    assert found.low == pytest.approx(0.2 - np.hypot(0.1, 0.2))
    assert found.high == pytest.approx(0.2 + np.hypot(0.2, 0.1))


def test_a_trend_is_the_slope_over_halvings():
    rows = [
        judged([0.70], [spread(0.70, 0.0)]),
        judged([0.76], [spread(0.76, 0.0)]),
        judged([0.79], [spread(0.79, 0.0)]),
    ]
    losses = [0.4, 0.2, 0.05]
    found = trend(losses, rows, "auc")
    assert found.slope.value == pytest.approx(np.polyfit([0, 1, 3], [0.70, 0.76, 0.79], 1)[0])
    assert (found.slope.low, found.slope.high) == pytest.approx((found.slope.value,) * 2)
    assert found.best_minus_worst.value == pytest.approx(0.09)
    assert (found.rising, found.generators) == (1.0, 3)
    # The order of the rows says nothing, and an error rate that falls is a gain that rises.
    turned = trend(losses[::-1], rows[::-1], "hter")
    assert turned.slope.value == pytest.approx(-found.slope.value)
    assert turned.rising == 0.0


def test_a_trend_draws_the_seeds_too():
    one, other = judged([0.6, 0.8], [spread(0.6, 0.0), spread(0.8, 0.0)]), judged([0.7, 0.7], [spread(0.7, 0.0)] * 2)
    found = trend([0.4, 0.2], [one, other], "auc")
    assert found.slope.value == pytest.approx(0.0)
    assert (found.slope.low, found.slope.high) == pytest.approx((-0.1, 0.1))  # both seeds the first, or the second
    assert found.slope.deviation == pytest.approx(np.std([0.1, -0.1], ddof=1))


def test_a_trend_of_few_videos_is_wider():
    rows = [judged([0.7], [spread(0.7, 0.01)], few=True), judged([0.8], [spread(0.8, 0.01)], few=True)]
    found = trend([0.4, 0.2], rows, "auc").slope
    assert (found.low, found.high) == pytest.approx((0.1 - np.hypot(0.1, 0.2), 0.1 + np.hypot(0.2, 0.1)))
    assert sum_ends([2.0, -1.0], [(0.5, (0.4, 0.7)), (0.1, (0.0, 0.4))]) == pytest.approx(
        (0.9 - np.hypot(0.2, 0.3), 0.9 + np.hypot(0.4, 0.1))
    )


@pytest.mark.parametrize("losses", [[0.2], [0.2, 0.2]])
def test_no_trend_without_two_losses(losses):
    with pytest.raises(AgfasError, match="two different noise losses"):
        trend(losses, [judged([0.7], [spread(0.7, 0.1)])] * len(losses), "auc")


def test_gains_average_parts_and_keep_seeds(monkeypatch):
    cells = {("a", 0): 0.9, ("b", 0): 0.7, ("a", 1): 0.8, ("b", 1): 0.8}

    def cell(self: Gains, trial: Any, fold: str, domain: str) -> Any:
        tallies = Tallies(Tally(10, 100), Tally(20, 100), {"print": Tally(20, 100)}, cells[fold, trial.seed])
        return tallies, {"auc": np.array(spread(cells[fold, trial.seed], 0.1)), "hter": np.array(spread(0.15, 0.1))}

    monkeypatch.setattr(Gains, "_cell", cell)
    trials: Any = tuple(SimpleNamespace(seed=seed, finished=True) for seed in (0, 1, 2))
    group = Group("row", trials, False, 0)
    gains = Gains(Mean("mean", (("a", ""), ("b", ""))), (0, 1))
    found = gains.judged(group, "auc")
    assert found.observed == pytest.approx([0.8, 0.8])
    assert found.drawn.shape == (2, 1001)
    assert found.estimate.low == pytest.approx(0.8 - 0.095)
    assert not found.few
    assert gains.judged(group, "hter").estimate.value == pytest.approx(0.15)


class Guessing:
    """A pipeline whose latents are the picture and whose guess is the noise but for what `wrong` adds at each level."""

    identity_encoder = object()
    scheduler = sd_scheduler()

    def __init__(self, wrong: dict[int, float]) -> None:
        self.wrong, self.seen = wrong, []

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        return image

    def identity_tokens(self, image: torch.Tensor, condition: str) -> torch.Tensor:
        assert condition == "identity"
        return image

    def draw_noise(self, latents: torch.Tensor, keys: list[str]) -> torch.Tensor:
        self.seen += keys
        return noise_for_keys(keys, tuple(latents.shape[1:]), 0, latents.device)

    def conditioned(self, tokens: torch.Tensor) -> Any:
        import contextlib

        return contextlib.nullcontext("identity")

    def predict_noise(self, noisy: torch.Tensor, t: int, conditioning: str) -> torch.Tensor:
        abar = float(self.scheduler.alphas_cumprod[t])
        clean = self.image[: len(noisy)]
        return (noisy - abar**0.5 * clean) / (1 - abar) ** 0.5 + self.wrong[t]


def test_noise_loss_is_the_mean_square_over_levels_and_latents():
    image = torch.rand(3, 3, 4, 4) * 2 - 1
    pipeline: Any = Guessing({250: 0.1, 750: 0.3})
    pipeline.image = image
    found = noise_loss(pipeline, image, ["a", "b", "c"], number=2)
    assert found == pytest.approx([(0.01 + 0.09) / 2] * 3, abs=1e-5)
    # Every level has streams of its own, none of them a restoration's, which are the bare keys'.
    assert pipeline.seen == [f"loss/{t}/{key}" for t in (250, 750) for key in "abc"]
    assert levels(4, 1000) == [125, 375, 625, 875]


def test_errors_of_restorations_in_grey_levels():
    faces = np.array([[[[0, 10, 255]]], [[[4, 4, 4]]]], dtype=np.uint8)
    restored = np.array([[[[255, 0, 0]]], [[[4, 5, 4]]]], dtype=np.uint8)
    assert grey_levels(faces, restored) == pytest.approx([520 / 3, 1 / 3])


def faces_of(**columns: Any) -> Any:
    return SimpleNamespace(**{name: np.array(values) for name, values in columns.items()})


def test_separation_ranks_videos_by_their_mean_error():
    faces = faces_of(
        domains=["d"] * 6 + ["e"], videos=["v0", "v0", "v1", "v2", "v3", "v4", "v0"], labels=[1, 1, 1, 0, 0, 0, 0]
    )
    # Live videos 2 and 4, attacks 3 and 5; the last has no cue: three of four pairs are in order.
    errors = np.array([1.0, 3.0, 4.0, 3.0, 5.0, np.nan, 9.0])
    assert separation(errors, faces, "d") == pytest.approx(0.75)
    with pytest.raises(AgfasError, match="No face of the domain f"):
        separation(errors, faces, "f")


def test_a_generator_is_measured_on_persons_that_it_has_not_seen():
    asked = []

    def live(domains: list[str], splits: tuple[str, ...]) -> np.ndarray:
        asked.append((domains, splits))
        return np.arange(10) if domains == ["own"] else np.array([], dtype=int)

    faces: Any = SimpleNamespace(live=live)
    experiment: Any = SimpleNamespace(generator=SimpleNamespace(domains=["own"]))
    assert held_out(experiment, faces, 5).tolist() == [0, 2, 4, 6, 8]
    assert asked == [(["own"], ("dev", "test"))]
    experiment.generator.domains = ["other"]
    with pytest.raises(AgfasError, match="outside the split train"):
        held_out(experiment, faces, 5)


@pytest.mark.parametrize(("name", "counts"), [("drawn", (1, 3, 2, 3)), ("real", (1, 4, 3, 3))])
def test_the_configurations_are_what_the_script_needs(name, counts):
    experiment = read_experiment(CONFIGS / f"gain_{name}.yaml")
    planned = expand(experiment)
    firsts = {
        item.label: item.experiment
        for item in planned
        if item.experiment.cue == experiment.cue.model_copy(update={"source": item.experiment.cue.source})
        and item.experiment.detector.name != "residual_only"
    }
    plain = [one for one in firsts.values() if one.detector.name == "image_only"]
    made = [one for one in firsts.values() if one.detector.name == "oanet" and one.cue.source == "dfg"]
    controls = [one for one in firsts.values() if one.cue.source in ("autoencoder", "shuffled")]
    assert (len(plain), len(made), len(controls), len({item.experiment.seed for item in planned})) == counts
    own = [one.generator.autoencoder for one in controls if one.cue.source == "autoencoder"]
    assert all(one.generator.autoencoder in own for one in made)


def test_the_drawn_study_shares_what_it_can_with_the_study():
    ours, study = (expand(read_experiment(CONFIGS / name)) for name in ("gain_drawn.yaml", "study.yaml"))

    def row(items: list[Any], label: str, *ignored: str) -> Any:
        chosen = next(item.experiment for item in items if item.label == label)
        return chosen.model_dump(exclude={"sweep", "output", *ignored})

    assert row(ours, "image_only", "cue") == row(study, "image_only", "cue")
    middle, papers = "cue of the middle generator", "oanet t=401 normalised (the paper's cue)"
    assert row(ours, middle) == row(study, papers)
    shuffled = "control shuffled cue t=401 normalised"
    assert row(ours, f"control shuffled {middle}") == row(study, shuffled)


PATCH = {"name": "patch", "patch_size": 4, "latent_channels": 8}
VARIANTS = [
    {"label": "plain", "set": {"detector": {"name": "image_only", "preset": "tiny"}}},
    {"label": "weak", "set": {"generator.loop.steps": 10}},
    {"label": "strong", "set": {"generator.loop.steps": 90}},
    {"label": "own error", "set": {"cue.source": "autoencoder"}},
    {"label": "wrong", "set": {"cue.source": "shuffled"}},
]
SKILL = {"plain": 0.2, "own error": 0.3, "weak": 0.5, "strong": 2.0, "wrong": 0.1}


def sweep_at(root: Path, variants: list[dict[str, Any]] = VARIANTS, **changes: Any) -> Any:
    """A sweep of two seeds on made-up faces of three domains."""
    write_faces(root / "faces", subjects=8)
    sweep = {"axes": {"seed": [0, 1]}, "variants": variants}
    generator = {"domains": ["kiosk"], "autoencoder": PATCH}
    return make_experiment(root / "run", sweep=sweep, generator=generator, **changes)


def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Generators are measured without being loaded: more steps, less loss."""

    def quality(experiment: Any, faces: Any, count: int) -> Quality:
        steps = experiment.generator.loop.steps
        return Quality(1234, steps, 4.0 / steps, 0.001, 9.0 - steps / 20, 1.0 - faces.labels, count)

    monkeypatch.setattr(measuring, "quality", quality)
    monkeypatch.setattr(measuring, "autoencoder_errors", lambda experiment, faces: 1.0 * faces.labels)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_sweep_becomes_a_table_and_a_plot(tmp_path, monkeypatch):
    measured(monkeypatch)
    experiment = sweep_at(tmp_path)
    make_output(experiment.root, experiment, skill=SKILL)
    write_tables(tmp_path / "out", "made", measuring.measure(experiment, "made", 7))
    draw(tmp_path / "out")
    generators = read(tmp_path / "out" / "made_generators.csv")
    assert [(one["generator"], one["noise_loss"], one["faces"]) for one in generators] == [
        ("weak", "0.4", "7"), ("strong", "0.0444", "7"),
    ]  # fmt: skip
    gains = {line["row"]: line for line in read(tmp_path / "out" / "made_gains.csv")}
    assert list(gains) == ["plain", "weak", "strong", "own error", "wrong"]
    # The numbers are result.json's, and the gains their differences.
    studies = read_results(expand(experiment))
    means = {one.name: np.mean([trial.mean(trial.honest, "auc") for trial in one.trials]) for one in studies[0].groups}
    for name, line in gains.items():
        assert float(line["auc"]) == pytest.approx(100 * means[name], abs=0.051)
        if name != "plain":
            assert float(line["auc_gain_over_image"]) == pytest.approx(100 * (means[name] - means["plain"]), abs=0.051)
    over = float(gains["strong"]["auc_gain_over_autoencoder"])
    assert over == pytest.approx(100 * (means["strong"] - means["own error"]), abs=0.051)
    assert gains["plain"]["auc_gain_over_image"] == gains["own error"]["auc_gain_over_autoencoder"] == ""
    assert [gains[name]["auc_of_the_error_alone"] for name in gains] == ["", "100.0", "100.0", "0.0", ""]
    trends = {line["metric"]: line for line in read(tmp_path / "out" / "made_trends.csv")}
    rise = 100 * (means["strong"] - means["weak"])
    assert float(trends["auc"]["best_minus_worst"]) == pytest.approx(rise, abs=0.051)
    assert float(trends["auc"]["points_per_halving_of_the_noise_loss"]) == pytest.approx(rise / np.log2(9), abs=0.051)
    text = (tmp_path / "out" / "gain.md").read_text()
    assert "made, mean of 3 domains | strong | 0.0444 | 4.5 | 100.0 |" in text
    picture = (tmp_path / "out" / "gain.svg").read_text()
    assert picture.startswith("<?xml")
    assert "over image_only" in picture
    draw(tmp_path / "out")
    assert (tmp_path / "out" / "gain.svg").read_text() == picture


def test_one_fold_of_several_domains_is_measured_by_domain(tmp_path, monkeypatch):
    measured(monkeypatch)
    protocol = {"name": "all_to_unseen", "train": ["kiosk"], "test": ["phone", "webcam"]}
    experiment = sweep_at(tmp_path, protocol=protocol)
    make_output(experiment.root, experiment, skill=SKILL)
    found = measuring.measure(experiment, "made", 7)
    assert list(dict.fromkeys(line["on"] for line in found.gains)) == ["phone", "webcam"]
    assert len(found.trends) == 2 * 2
    assert figure([found, found]).axes[-1].get_xlabel().startswith("restoration error")


def test_what_is_unfinished_is_refused_or_left_out(tmp_path):
    experiment = sweep_at(tmp_path)
    make_output(experiment.root, experiment, unfinished=("strong (seed=1)", "wrong (seed=0)", "wrong (seed=1)"))
    with pytest.raises(AgfasError, match=r"3 of 10 experiments in .* strong \(seed=1\)\. Run `agfas sweep`.*--partial"):
        read_rows(experiment)
    _, rows = read_rows(experiment, partial=True)
    assert rows.seeds == (0,)
    assert [one.name for one in rows.groups] == ["plain", "weak", "strong", "own error"]


@pytest.mark.parametrize(
    ("left_out", "said"),
    [
        ("plain", "0 finished rows without a cue and 2"),
        ("weak", "1 finished rows without a cue and 1"),
        ("own error", "'weak' has no finished control with the cue source autoencoder"),
    ],
)
def test_a_missing_row_is_named(tmp_path, left_out, said):
    experiment = sweep_at(tmp_path, [one for one in VARIANTS if one["label"] != left_out])
    make_output(experiment.root, experiment)
    with pytest.raises(AgfasError, match=said):
        read_rows(experiment)


def test_a_control_is_of_the_same_autoencoder(tmp_path):
    other = {"generator.autoencoder": {**PATCH, "latent_channels": 16}}
    variants = [
        *VARIANTS,
        {"label": "other latents", "set": other},
        {"label": "their error", "set": {**other, "cue.source": "autoencoder"}},
    ]
    experiment = sweep_at(tmp_path, variants)
    make_output(experiment.root, experiment)
    study, rows = read_rows(experiment)
    assert [rows.autoencoders[one].name for one in rows.cues] == ["own error", "own error", "their error"]
    assert comparable(rows) == [0, 1]
    assert [mean.name for mean in means_of(study, rows.image)] == ["mean of 3 domains"]


def test_another_detector_or_cue_stands_beside_the_generators(tmp_path, monkeypatch):
    measured(monkeypatch)
    kept = {"cue.normalize": "none"}
    variants = [
        {"label": "error, kept", "set": {**kept, "cue.source": "autoencoder"}},
        *VARIANTS,
        {"label": "strong, kept", "set": {**kept, "generator.loop.steps": 90}},
        {"label": "strong alone", "set": {"detector": {"name": "residual_only", "preset": "tiny"}}},
    ]
    experiment = sweep_at(tmp_path, variants)
    make_output(experiment.root, experiment)
    _, rows = read_rows(experiment)
    assert [one.name for one in rows.cues] == ["weak", "strong"]
    assert {one.name: other.name for one, other in rows.autoencoders.items()} == {
        "weak": "own error", "strong": "own error", "strong, kept": "error, kept",
    }  # fmt: skip
    assert [one.name for one in rows.others] == ["error, kept", "wrong", "strong, kept", "strong alone"]
    gains = {line["row"]: line for line in measuring.measure(experiment, "made", 7).gains}
    assert gains["strong alone"]["auc_gain_over_image"] != ""
    assert gains["strong alone"]["auc_gain_over_autoencoder"] == ""
    kept = gains["strong, kept"]
    assert kept["auc_gain_over_autoencoder"] == pytest.approx(kept["auc"] - gains["error, kept"]["auc"], abs=0.11)


def test_an_experiment_without_a_sweep_has_no_gain(tmp_path):
    with pytest.raises(AgfasError, match="A gain needs a sweep"):
        read_rows(make_experiment(tmp_path / "run"))


def test_the_command_says_what_is_wrong_in_one_line(tmp_path, capsys):
    assert main(["draw", str(tmp_path)]) == 1
    assert capsys.readouterr().err == (
        f"cue_gain: {tmp_path} holds no NAME_gains.csv. Run `python -m scripts.cue_gain measure` first.\n"
    )
    (tmp_path / "made_gains.csv").write_text("study\n")
    assert main(["draw", str(tmp_path)]) == 1
    assert "made_generators.csv is missing" in capsys.readouterr().err
    words = ["--name", "x", "--out", str(tmp_path / "out"), "--output", str(tmp_path / "run")]
    assert main(["measure", str(CONFIGS / "gain_drawn.yaml"), "sead=1", *words]) == 1
    assert "unknown key 'sead'; did you mean 'seed'?" in capsys.readouterr().err
    assert main(["measure", str(CONFIGS / "gain_drawn.yaml"), *words]) == 1
    assert "18 of 18 experiments" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
