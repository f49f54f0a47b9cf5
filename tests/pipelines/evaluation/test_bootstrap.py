"""Bootstrap: replicates against resampled tables, draws, coverage."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from paired_tables import mean_interval, paired_difference
from score_tables import curve, make_table, random_table

from pipelines.errors import AgfasError
from pipelines.evaluation import bootstrap, metrics
from pipelines.evaluation.bootstrap import (
    BOOTSTRAP_METRICS,
    Draws,
    checked,
    interval,
    intervals,
    replicate_values,
)
from pipelines.evaluation.exact import Tallies, Tally
from pipelines.evaluation.scores import SCORE_COLUMNS, ScoreTable


def repeated(table: ScoreTable, counts: np.ndarray) -> ScoreTable:
    """The table with row i `counts[i]` times, under new names."""
    drawn = np.repeat(np.arange(len(table)), counts)
    return make_table(table.label[drawn], table.score[drawn], attack_type=table.attack_type[drawn])


def two_domains(count: int) -> ScoreTable:
    table = random_table(count, 2)
    columns = {name: getattr(table, name) for name in ("key", "video", "attack_type", "label", "score")}
    half = np.arange(count) % 2
    subjects = np.char.add("s", (np.arange(count) % 17).astype(str))
    return ScoreTable(**columns, domain=np.array(["x", "y"])[half], subject=subjects)


@pytest.mark.parametrize("unit", ["video", "subject"])
@pytest.mark.parametrize("decimals", [None, 1])
def test_replicates_equal_metrics_of_resampled_tables(decimals, unit):
    table = random_table(80, 1, decimals)
    values = replicate_values(table, 0.45, BOOTSTRAP_METRICS, replicates=25, seed=3, unit=unit)
    videos = table.by_video()
    counts = np.concatenate(list(Draws(videos, unit, seed=3).blocks(25)))
    for replicate in range(25):
        slow = metrics.report(repeated(videos, counts[replicate]), 0.45)
        for name in BOOTSTRAP_METRICS:
            assert values[name][replicate] == pytest.approx(getattr(slow, name), abs=1e-12), name


def test_strata_keep_their_size():
    videos = two_domains(200).by_video()
    for counts in next(Draws(videos, "video", seed=0).blocks(5)):
        for domain in "xy":
            for kind in ("none", "print", "replay", "mask"):
                stratum = (videos.domain == domain) & (videos.attack_type == kind)
                assert counts[stratum].sum() == stratum.sum() > 0


def test_subjects_are_drawn_whole_within_their_domain():
    videos = two_domains(200).by_video()
    people = np.char.add(videos.domain, videos.subject)
    for counts in next(Draws(videos, "subject", seed=0).blocks(5)):
        assert all(len(np.unique(counts[people == person])) == 1 for person in np.unique(people))
        for domain in "xy":
            drawn = {person: counts[people == person][0] for person in np.unique(people[videos.domain == domain])}
            assert sum(drawn.values()) == len(drawn)


def test_replicates_are_the_same_a_few_at_a_time(monkeypatch):
    table = random_table(100)
    whole = replicate_values(table, 0.5, BOOTSTRAP_METRICS, 23)
    monkeypatch.setattr(bootstrap, "_MOST_COUNTS", 5 * len(table.by_video()))
    assert len(list(Draws(table.by_video(), "video", seed=0).blocks(23))) == 5
    found = replicate_values(table, 0.5, BOOTSTRAP_METRICS, 23)
    for name in BOOTSTRAP_METRICS:
        np.testing.assert_array_equal(found[name], whole[name])


@pytest.mark.parametrize("unit", ["video", "subject"])
@pytest.mark.parametrize("at_a_time", [2**21, 500])
def test_counts_come_in_the_order_that_is_asked_for(at_a_time, unit, monkeypatch):
    videos = two_domains(100).by_video()
    order = np.random.default_rng(3).permutation(len(videos))
    monkeypatch.setattr(bootstrap, "_MOST_COUNTS", at_a_time)
    blocks = [np.concatenate(list(Draws(videos, unit, 0).blocks(11, rows))) for rows in (None, order)]
    np.testing.assert_array_equal(blocks[1], blocks[0][:, order])


def test_what_is_drawn_is_kept_for_the_same_videos_alone():
    table = random_table(60).by_video()
    other = ScoreTable(
        **{name: getattr(table, name) for name in SCORE_COLUMNS if name != "score"}, score=1 - table.score
    )
    first = next(Draws(table, "video", 0).blocks(7))
    assert next(Draws(other, "video", 0).blocks(7)) is first
    assert Draws(table, "video", 0) != Draws(table, "subject", 0)
    assert Draws(table, "video", 0) != Draws(table, "video", 1)
    types = np.where(table.attack_type == "none", "none", "print")
    coarse = ScoreTable(
        **{name: getattr(table, name) for name in SCORE_COLUMNS if name != "attack_type"}, attack_type=types
    )
    assert Draws(coarse, "video", 0) != Draws(table, "video", 0)


def test_a_seed_repeats_and_another_differs():
    table = random_table(100)
    first = replicate_values(table, 0.5, ["auc"], 20, seed=1)["auc"]
    np.testing.assert_array_equal(first, replicate_values(table, 0.5, ["auc"], 20, seed=1)["auc"])
    assert not np.array_equal(first, replicate_values(table, 0.5, ["auc"], 20, seed=2)["auc"])


def test_order_of_rows_and_frames_of_equal_score_change_nothing():
    table = random_table(100)
    shuffled = table.where(np.random.default_rng(0).permutation(100))
    assert intervals(table, 0.5, replicates=50) == intervals(shuffled, 0.5, replicates=50)


def test_the_observed_value_lies_within():
    table = random_table(300, 4)
    observed = metrics.report(table, 0.5)
    found = intervals(table, 0.5, BOOTSTRAP_METRICS, replicates=300)
    for name, (low, high) in found.items():
        assert low < getattr(observed, name) < high, name
        assert high - low < 0.25, name


def test_more_videos_narrow_the_interval():
    def mean_width(videos: int) -> float:
        found = [intervals(random_table(videos, seed), 0.5, ["auc"], 200)["auc"] for seed in range(8)]
        return float(np.mean([high - low for low, high in found]))

    assert mean_width(200) / mean_width(3200) == pytest.approx(4, rel=0.2)  # the root of 16


def test_frames_of_a_video_are_one_unit():
    frames = random_table(60, 6)
    columns = {name: np.repeat(getattr(frames, name), 5) for name in ("video", "subject", "domain", "attack_type")}
    keys = np.char.add(np.repeat(frames.key, 5), np.tile(np.arange(5).astype(str), 60))
    copied = ScoreTable(key=keys, label=np.repeat(frames.label, 5), score=np.repeat(frames.score, 5), **columns)
    once, five_times = (intervals(table, 0.5, replicates=100) for table in (frames, copied))
    for name, ends in once.items():
        assert five_times[name] == pytest.approx(ends, abs=1e-9)


def test_coverage_of_the_auc_interval():
    # P(live > attack) of two unit normals 1.2 apart is Phi(1.2 / sqrt 2).
    truth, hits, trials = 0.8019, 0, 120
    for seed in range(trials):
        generator = np.random.default_rng(seed)
        labels = np.repeat([0, 1], 60)
        table = make_table(labels, generator.normal(size=120) + 1.2 * labels)
        low, high = intervals(table, 0.6, ["auc"], replicates=200, seed=seed)["auc"]
        hits += low <= truth <= high
    assert 0.88 <= hits / trials <= 0.99


def test_coverage_of_hter_at_a_fixed_threshold():
    truth, hits, trials = 0.2743, 0, 120  # Phi(-0.6) on both sides
    for seed in range(trials):
        generator = np.random.default_rng(1000 + seed)
        labels = np.repeat([0, 1], 80)
        table = make_table(labels, generator.normal(size=160) + 1.2 * labels)
        low, high = intervals(table, 0.6, ["hter"], replicates=200, seed=seed)["hter"]
        hits += low <= truth <= high
    assert 0.88 <= hits / trials <= 0.99


def test_a_table_does_not_differ_from_itself():
    table = random_table(100)
    assert paired_difference(table, table, (0.5, 0.5), "hter", 50) == (0.0, 0.0, 0.0)


def test_pairing_narrows_the_difference():
    a = random_table(400, 8)
    noise = np.random.default_rng(0).normal(size=400)
    b = make_table(a.label, a.score + 0.02 * noise, attack_type=a.attack_type)
    mean, lowest, highest = paired_difference(a, b, (0.5, 0.5), "auc", 300)
    assert mean == pytest.approx(curve(a).auc() - curve(b).auc())
    assert lowest <= mean <= highest
    low, high = intervals(a, 0.5, ["auc"], 300)["auc"]
    assert highest - lowest < 0.5 * (high - low)


def test_pairing_ignores_the_order_of_rows():
    a, b = random_table(100, 1), random_table(100, 1, decimals=1)
    shuffled = b.where(np.random.default_rng(0).permutation(100))
    assert paired_difference(a, b, (0.5, 0.4), "eer", 50) == paired_difference(a, shuffled, (0.5, 0.4), "eer", 50)


def test_other_videos_cannot_be_paired():
    with pytest.raises(AgfasError, match="10 videos are in one table only"):
        paired_difference(random_table(50), random_table(60), (0.5, 0.5), "auc")


def test_the_mean_over_targets_is_narrower_than_each():
    targets = []
    for seed in range(4):
        table = random_table(150, seed)
        targets.append(make_table(table.label, table.score, domain=[f"t{seed}"] * 150, attack_type=table.attack_type))
    low, high = mean_interval(targets, [0.5] * 4, "hter", 300)
    widths = [np.diff(intervals(table, 0.5, ["hter"], 300)["hter"])[0] for table in targets]
    assert 0.35 < (high - low) / np.mean(widths) < 0.7
    assert low < np.mean([metrics.report(table, 0.5).hter for table in targets]) < high


def test_seeds_on_the_same_videos_are_drawn_alike():
    table = random_table(150, 1)
    low, high = mean_interval([table, table], [0.5, 0.5], "hter", 300)
    assert (low, high) == pytest.approx(intervals(table, 0.5, ["hter"], 300)["hter"])


def test_interval_takes_the_central_share():
    assert interval(np.arange(101), 0.9) == pytest.approx((5.0, 95.0))


def test_mistakes_are_named():
    table = random_table(20)
    with pytest.raises(AgfasError, match="did you mean 'hter'"):
        intervals(table, 0.5, ["htr"])
    with pytest.raises(AgfasError, match="did you mean 'subject'"):
        intervals(table, 0.5, unit="subjects")
    with pytest.raises(AgfasError, match="no attack"):
        intervals(make_table([1, 1], [0.1, 0.2]), 0.5)


@pytest.mark.parametrize("unit", ["video", "subject"])
def test_draws_are_those_of_every_version(unit):
    """Published intervals rest on them: strata by name, and for each replicate one draw a stratum, in this order."""
    videos = two_domains(60).by_video()
    if unit == "video":
        cluster = np.arange(60)
        strata = [*zip(videos.domain.tolist(), videos.attack_type.tolist(), strict=True)]
    else:
        people = [*zip(videos.domain.tolist(), videos.subject.tolist(), strict=True)]
        order = sorted(set(people))
        cluster = np.array([order.index(person) for person in people])
        both = [*zip(people, videos.label.tolist(), strict=True)]
        kinds = {person: {label for other, label in both if other == person} for person in order}
        strata = [(domain, 0 in kinds[domain, name], 1 in kinds[domain, name]) for domain, name in order]
    digest = hashlib.sha256("\n".join(videos.key.tolist()).encode()).digest()
    generator = np.random.default_rng([7, int.from_bytes(digest[:8], "big")])
    expected = []
    for _ in range(4):
        drawn = np.zeros(len(strata), dtype=int)
        for stratum in sorted(set(strata)):
            members = [place for place, other in enumerate(strata) if other == stratum]
            for pick in generator.integers(0, len(members), len(members)):
                drawn[members[pick]] += 1
        expected.append(drawn[cluster].tolist())
    (block,) = Draws(videos, unit, seed=7).blocks(4)
    assert block.tolist() == expected
    assert not block.flags.writeable  # it is kept for the next detector


def test_what_is_drawn_unless_something_else_is_asked_for():
    table = random_table(40, 3)
    usual = intervals(table, 0.5)
    assert list(usual) == ["hter", "auc", "eer", "acer"]
    assert usual == intervals(table, 0.5, list(usual), 1000, 0, unit="video", level=0.95)
    assert len(replicate_values(table, 0.5, ["auc"])["auc"]) == 1000
    values = replicate_values(table, 0.5, ["auc"], 50)["auc"]
    assert values.tolist() == replicate_values(table, 0.5, ["auc"], 50, 0, unit="video")["auc"].tolist()
    assert interval(values) == tuple(np.quantile(values, [0.025, 0.975]))
    two = two_domains(300)
    assert intervals(two, 0.5, ["auc"], 100, level=0.5) != intervals(two, 0.5, ["auc"], 100)
    assert intervals(two, 0.5, ["auc"], 100, unit="subject") != intervals(two, 0.5, ["auc"], 100)
    assert BOOTSTRAP_METRICS == ("hter", "auc", "eer", "far", "apcer", "bpcer", "acer")


def test_where_the_exact_ends_take_the_place_of_the_bootstrap_s():
    few, many = Tally(1, 40), Tally(10, 40)
    tallies = Tallies(many, few, {"print": few}, 0.9)
    assert checked((0.1, 0.2), tallies, "bpcer", 0.9) == (0.1, 0.2)
    assert checked((0.2, 0.2), tallies, "bpcer", 0.9) == many.ends(0.9)
    assert checked((0.1, 0.2), tallies, "far") == few.ends(0.95)
