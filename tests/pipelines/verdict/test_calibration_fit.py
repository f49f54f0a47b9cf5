"""The head beside independent computations, who is held out of what, and the threshold's promise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import beta
from sklearn.covariance import LedoitWolf

from oanet.batch import DetectorOutput
from pipelines.errors import AgfasError
from pipelines.verdict.calibration.fit import calibrate, fit, held_out_fits, joined, quantile
from pipelines.verdict.calibration.head import Gaussian, OneClassHead, log_odds
from pipelines.verdict.calibration.people import MOST_FOLDS, LiveFaces, Looks, check_apart


def people(persons: int = 6, each: int = 30, size: int = 8, seed: int = 0, spread: float = 0.2) -> LiveFaces:
    """Faces of persons whose means differ; a picture each, of unequal numbers."""
    random = np.random.default_rng(seed)
    group = np.repeat(np.arange(persons), each + np.arange(persons))
    mixing = np.random.default_rng(99).normal(size=(size, size))  # the camera's, of every seed
    features = (random.normal(size=(len(group), size)) + spread * random.normal(size=(persons, size))[group]) @ mixing
    odds = random.normal(1, 2, len(group))
    return LiveFaces(
        odds, 1 / (1 + np.exp(-odds)), features, np.arange(len(group)), group,
        [f"p{number:02d}" for number in range(persons)], len(group),
    )  # fmt: skip


def test_distances_are_those_of_scikit_learn():
    features = people().features
    found = np.exp(2 * Gaussian.fit(features).distances(features))
    np.testing.assert_allclose(found, LedoitWolf().fit(features).mahalanobis(features), rtol=1e-9)


def test_distances_of_more_features_than_faces():
    features = np.random.default_rng(3).normal(size=(12, 40))
    found = np.exp(2 * Gaussian.fit(features).distances(features + 1))
    np.testing.assert_allclose(found, LedoitWolf().fit(features).mahalanobis(features + 1), rtol=1e-8)


def test_the_mean_of_gaussians_has_their_mean_squared_distance():
    parts = [Gaussian.fit(people(seed=seed).features) for seed in range(3)]
    features = people(seed=7).features
    expected = np.mean([part.squared(features) for part in parts], axis=0)
    np.testing.assert_allclose(Gaussian.mean_of(parts).squared(features), expected, rtol=1e-9)


def test_the_head_computes_what_the_fit_computed():
    faces = people()
    fitted = fit(faces, 0.05)
    assert fitted.head is not None
    gaussians, held_out = held_out_fits(faces)
    scales = [[values.mean(), values.std()] for values in (faces.odds, held_out)]
    distances = np.log(np.mean([np.exp(2 * each.distances(faces.features)) for each in gaussians], axis=0)) / 2
    z = (faces.odds - scales[0][0]) / scales[0][1] - (distances - scales[1][0]) / scales[1][1]
    found = fitted.head(torch.from_numpy(faces.odds).float(), torch.from_numpy(faces.features).float())
    np.testing.assert_allclose(found.numpy(), z, atol=2e-5)
    np.testing.assert_allclose(joined(faces.odds, distances, np.array(scales)), 1 / (1 + np.exp(-z / 4)), rtol=1e-12)


def test_scores_of_zero_and_one_and_a_face_like_the_mean_are_finite():
    certain = DetectorOutput(torch.tensor([[900.0, -900.0], [0.0, torch.inf], [1.0, 3.0]]), torch.zeros(3, 2))
    assert log_odds(certain).tolist() == [-50, 50, 2]
    faces = people()
    gaussian = Gaussian.fit(faces.features)
    assert np.isfinite(gaussian.distances(gaussian.mean[None])).all()
    head = OneClassHead.of(gaussian, np.array([[0, 1], [0, 1]]), "both")
    assert torch.isfinite(head(torch.zeros(1), head.mean[None])).all()


def test_nobody_is_in_the_fit_that_judges_them():
    faces = people()
    gaussians, distances = held_out_fits(faces)
    for person in range(6):
        mine = faces.group == person
        strange = np.where(mine[:, None], 50 + 9 * faces.features, faces.features)
        others, changed = held_out_fits(replace(faces, features=strange))
        for name in ("mean", "root"):
            np.testing.assert_array_equal(getattr(others[person], name), getattr(gaussians[person], name))
            assert not np.array_equal(getattr(others[person - 1], name), getattr(gaussians[person - 1], name))
        np.testing.assert_array_equal(changed[mine], gaussians[person].distances(strange[mine]))
    assert np.isfinite(distances).all()


def test_many_persons_are_held_out_in_few_folds():
    faces = people(persons=47, each=3)
    gaussians, _ = held_out_fits(faces)
    assert len(gaussians) == MOST_FOLDS
    np.testing.assert_array_equal(gaussians[4].mean, Gaussian.fit(faces.features[faces.group % 20 != 4]).mean)


def test_a_threshold_of_the_fitted_faces_rejects_nearly_everybody_and_one_of_held_out_faces_does_not():
    live, new = (people(persons=10, size=96, each=15, seed=seed, spread=0.5) for seed in (1, 2))
    single = Gaussian.fit(live.features)
    trap = np.quantile(-single.distances(live.features), 0.05)
    assert np.mean(-single.distances(new.features) < trap) > 0.7
    fitted = calibrate(live, 0.05)
    assert fitted.head is not None
    z = fitted.head(torch.from_numpy(new.odds).float(), torch.from_numpy(new.features).float())
    assert np.mean((z / 4).sigmoid().numpy() < fitted.threshold) < 0.12


def test_the_threshold_rejects_the_share_that_was_asked_for():
    scores, weights = np.arange(40) / 40, np.ones(40)
    assert quantile(scores, weights, 0.05) == pytest.approx(1.5 / 40)  # two of forty lie below
    assert quantile(scores, weights, 0.01) == 0.0
    assert quantile(np.repeat([0.1, 0.9], [30, 10]), weights, 0.05) == 0.1
    assert quantile(np.repeat([0.1, 0.9], [2, 38]), weights, 0.05) == pytest.approx(0.5)


def test_every_person_counts_alike():
    """A person of one picture weighs as much as one of a hundred."""
    faces = people(persons=2, each=1)
    faces = replace(faces, group=np.array([0, 1, 1]))
    np.testing.assert_allclose(faces.weights, [1, 0.5, 0.5])
    scores = np.concatenate([np.full(100, 0.9), [0.1]])
    assert quantile(scores, np.concatenate([np.full(100, 0.01), [1]]), 0.05) == 0.1
    assert quantile(scores, np.ones(101), 0.05) == pytest.approx(0.5)


def test_what_is_attained_is_of_the_others_thresholds():
    faces = people(persons=5, each=20)
    fitted = calibrate(faces, 0.1, head=False)
    shares = []
    for person in range(5):
        mine = faces.group == person
        limit = quantile(faces.scores[~mine], faces.weights[~mine], 0.1)
        shares.append(np.mean(faces.scores[mine] < limit))
    assert fitted.facts.attained == pytest.approx(np.mean(shares))
    errors = 5 * np.mean(shares)
    assert fitted.facts.interval == pytest.approx(
        (beta.ppf(0.025, errors, 6 - errors), beta.ppf(0.975, errors + 1, 5 - errors))
    )
    assert fitted.head is None
    assert fitted.facts.words == "chosen on 110 live faces of 5 persons, BPCER 10 %"


def test_a_video_is_judged_by_the_mean_of_its_frames():
    faces = people(persons=5, each=20)
    pairs = replace(faces, capture=np.arange(110) // 2, group=faces.group[::2])
    np.testing.assert_allclose(pairs.by_capture(faces.scores), faces.scores.reshape(-1, 2).mean(axis=1))
    assert calibrate(pairs, 0.05).facts.captures == 55


@pytest.mark.parametrize(
    ("faces", "options", "words"),
    [
        (people(persons=4, each=40), {}, "of 4 persons (p00, p01, p02, p03), and 5 are needed"),
        (people(persons=5, each=15), {}, "85 different faces, and a head needs 100"),
        (people(persons=5, each=15), {"head": False, "bpcer": 0.01}, "takes 100 pictures or videos"),
        (people(persons=5, each=30), {"bpcer": 0.0}, "must be above 0 and below 0.5"),
        (people(persons=5, each=30), {"bpcer": float("nan")}, "must be above 0 and below 0.5"),
        (replace(people(persons=3, each=40), one_person=True), {}, "of 3 sessions of the person"),
        (replace(people(), features=np.ones((195, 8))), {}, "the same for every face"),
        (replace(people(), features=np.full((195, 8), np.nan)), {}, "are not finite"),
        (replace(people(), odds=np.ones(195)), {}, "every live face the same score"),
    ],
)
def test_what_is_too_little_is_refused(faces, options, words):
    with pytest.raises(AgfasError, match=words.replace("(", r"\(").replace(")", r"\)")):
        calibrate(faces, **options)


def test_nearly_equal_pictures_of_two_persons_are_refused():
    random = np.random.default_rng(0)
    looks = Looks(random.integers(0, 2**63, 4, dtype=np.uint64), random.integers(0, 256, (4, 256), dtype=np.uint8))
    group, places = np.array([0, 0, 1, 1]), [f"{number}.jpg" for number in range(4)]
    check_apart(group, ["ann", "bob"], places, looks)
    same = Looks(looks.hashes[[0, 1, 1, 3]], looks.thumbnails[[0, 1, 1, 3]])
    with pytest.raises(AgfasError, match=r"1.jpg \(ann\) and 2.jpg \(bob\) are nearly the same picture"):
        check_apart(group, ["ann", "bob"], places, same)
    check_apart(np.array([0, 0, 0, 1]), ["ann", "bob"], places, same)


def test_a_head_of_another_detector_or_a_damaged_file_is_refused(tmp_path):
    OneClassHead(4).save(tmp_path / "head.safetensors")
    with pytest.raises(AgfasError, match="no head for a detector with 5 features"):
        OneClassHead.load(tmp_path / "head.safetensors", "both", 5)
    (tmp_path / "head.safetensors").write_bytes(b"nothing")
    with pytest.raises(AgfasError, match="Calibrate again"):
        OneClassHead.load(tmp_path / "head.safetensors", "both", 4)
