"""What a sweep asks of a generator and makes of its answers; the generator is arithmetic."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from dfg.noise import noise_for_keys
from dfg.schedule import sd_scheduler
from dfg.speed import Speed
from pipelines.cues.faces import ArrayFaces
from pipelines.cues.identity import restoration_identity
from pipelines.cues.job import CueJob, StagedSweep, batches_of, to_pixels, whole_batches
from pipelines.cues.settings import AncestralSettings, CueSettings, RestorationSettings
from pipelines.cues.sources import (
    BaselineSweep,
    CueSweep,
    DfgSweep,
    OneOfSweep,
    SingleSource,
    as_sweep,
    check_timesteps,
    speed_of,
)
from pipelines.errors import AgfasError

KEYS = ["a", "b"]
IMAGE = torch.arange(2 * 3 * 4 * 4).reshape(2, 3, 4, 4) / 100
TEN = RestorationSettings(num_inference_steps=10)


class Generator:
    """Latents are half the face, their deviation a tenth; restoring adds the noise, decoding multiplies by 10."""

    def __init__(self, encoder: Any = "encoder", device: str = "cpu") -> None:
        self.identity_encoder, self.device, self.scheduler = encoder, device, sd_scheduler()
        self.log: list[Any] = []

    def identity_tokens(self, image: torch.Tensor, condition: str) -> torch.Tensor:
        self.log.append(("tokens", condition))
        return image.mean(dim=(2, 3))[:, None]

    def encode_posterior(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return image / 2, image / 10

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return latents * 10

    @contextmanager
    def conditioned(self, tokens: torch.Tensor, guidance: float) -> Iterator[str]:
        self.log.append(("conditioned", tokens.shape, guidance))
        yield "conditioning"

    def restore_latents(self, latents, conditioning, timestep, steps, noise, *, sampler, calls):
        self.log.append(("restore", conditioning, timestep, steps, sampler, calls))
        return latents + timestep * noise


@pytest.fixture(autouse=True)
def applied(monkeypatch) -> list[Speed]:
    """The speeds that generators were set to."""
    seen: list[Speed] = []
    monkeypatch.setattr(Speed, "apply", lambda self, pipeline: seen.append(self))
    return seen


def noise(seed: int, keys: list[str] = KEYS) -> torch.Tensor:
    return noise_for_keys(keys, (3, 4, 4), seed)


def test_faces_are_restored_from_their_own_noise_at_every_t():
    maker = Generator()
    sweep = DfgSweep(maker, [0, 201, 401], "weights", "autoencoder", TEN)
    made = sweep.restore(IMAGE, KEYS, [0, 201, 401])
    assert list(made) == [0, 201, 401]
    torch.testing.assert_close(made[0], 5 * IMAGE)
    for timestep in (201, 401):
        torch.testing.assert_close(made[timestep], 5 * IMAGE + 10 * timestep * noise(0))
    assert maker.log == [
        ("tokens", "identity"),
        ("conditioned", (2, 1, 3), 1.0),
        ("restore", "conditioning", 201, 10, "ddim", None),
        ("restore", "conditioning", 401, 10, "ddim", None),
    ]
    maker.log.clear()
    torch.testing.assert_close(sweep.restore(IMAGE, KEYS, [0])[0], 5 * IMAGE)
    assert maker.log == []  # the autoencoder needs no identity
    assert sweep.timesteps == (0, 201, 401)


def test_samples_are_averaged_over_the_following_seeds_and_a_posterior_is_drawn():
    chosen = TEN.model_copy(
        update={"samples": 3, "seed": 5, "posterior": "sample", "guidance_scale": 2.0, "calls": 2, "scheduler": "unipc"}
    )
    maker = Generator()
    made = DfgSweep(maker, [201], "weights", settings=chosen).restore(IMAGE, KEYS, [201])[201]
    drawn = [
        10 * (IMAGE / 2 + IMAGE / 10 * noise(seed, ["posterior/a", "posterior/b"]) + 201 * noise(seed))
        for seed in (5, 6, 7)
    ]
    torch.testing.assert_close(made, sum(drawn) / 3)
    assert maker.log[1:] == [
        ("conditioned", (2, 1, 3), 2.0),
        *[("restore", "conditioning", 201, 10, "unipc", 2)] * 3,
    ]


def test_a_generator_without_an_identity_gets_none():
    maker = Generator(encoder=None)
    DfgSweep(maker, [201], "weights", settings=TEN).restore(IMAGE, KEYS, [201])
    assert maker.log[0] == ("tokens", "none")
    forced = Generator()
    DfgSweep(forced, [201], "weights", settings=TEN, condition="none").restore(IMAGE, KEYS, [201])
    assert forced.log[0] == ("tokens", "none")


def test_what_names_a_restoration():
    plain = DfgSweep(Generator(), [0, 201], "weights", "autoencoder", TEN)
    assert plain.fingerprint(0) == restoration_identity(TEN, "dfg", "autoencoder", 0)
    assert plain.fingerprint(201) == restoration_identity(TEN, "dfg", "weights", 201)
    without = DfgSweep(Generator(encoder=None), [201], "weights", settings=TEN)
    assert without.fingerprint(201) == plain.fingerprint(201)
    forced = DfgSweep(Generator(), [201], "weights", settings=TEN, condition="none")
    assert forced.fingerprint(201) == {**plain.fingerprint(201), "condition": "none"}


def test_where_faces_are_restored_and_whether_the_next_ones_are_prepared_meanwhile():
    for device, ahead in (("cpu", False), ("meta", True)):
        sweep = DfgSweep(Generator(device=device), [201], "weights", settings=TEN)
        assert (sweep.device, sweep.prepares_ahead) == (torch.device(device), ahead)
        assert isinstance(sweep, StagedSweep)
        assert isinstance(sweep, CueSweep)


def test_every_setting_of_speed_reaches_the_generator(applied):
    chosen = TEN.model_copy(
        update={
            "dtype": "bfloat16", "channels_last": True, "compile": True, "attention": "eager",
            "autoencoder_dtype": "bfloat16", "tf32": True,
        }
    )  # fmt: skip
    expected = Speed("bfloat16", True, True, "eager", "bfloat16", True)
    assert speed_of(chosen) == expected
    DfgSweep(Generator(), [201], "weights", settings=chosen)
    DfgSweep(Generator(), [201], "weights", settings=TEN)
    assert applied == [expected, Speed("float32", autoencoder_dtype="float32")]


@pytest.mark.parametrize(
    ("timesteps", "settings", "encoder", "message"),
    [
        ([], TEN, "encoder", r"timesteps must be given, each once; got \[\]"),
        ([201, 201], TEN, "encoder", r"each once; got \[201, 201\]"),
        ([0], TEN, "encoder", "t = 0 is the autoencoder alone: give autoencoder_sha256"),
        ([202], TEN, "encoder", "202"),
        ([201], TEN.model_copy(update={"calls": 300}), "encoder", "300"),
        ([201], TEN.model_copy(update={"guidance_scale": 2.0}), None, "guidance_scale guides by the identity"),
    ],
)
def test_what_cannot_be_restored_is_refused(timesteps, settings, encoder, message):
    with pytest.raises(AgfasError, match=message):
        DfgSweep(Generator(encoder), timesteps, "weights", settings=settings)


class Model:
    """A baseline that remembers what it is asked; its restorations are the seed."""

    device = "cpu"

    def __init__(self, name: str) -> None:
        self.name, self.log = name, []

    def reconstruct(self, image: torch.Tensor, keys: list[str], **options: Any) -> torch.Tensor:
        self.log.append((tuple(image.shape), keys, options))
        return torch.full_like(image, options.get("seed", 9))


def test_a_baseline_without_noise_is_asked_once():
    model: Any = Model("memae")
    sweep = BaselineSweep(model, "weights", settings=AncestralSettings(samples=3))
    assert sweep.timesteps == (0,)
    assert (sweep.restore(IMAGE, KEYS, [0])[0] == 9).all()
    assert model.log == [((2, 3, 4, 4), KEYS, {})]
    assert sweep.fingerprint(0) == {"name": "memae", "weights": "weights"}
    assert sweep.device == torch.device("cpu")
    with pytest.raises(AgfasError, match=r"memae adds no noise, so it has no t; got \[200\]"):
        BaselineSweep(model, "weights", [200])


def test_a_noised_baseline_is_averaged_over_its_seeds():
    model: Any = Model("anoddpm")
    settings = AncestralSettings(samples=3, seed=4, calls=20)
    sweep = BaselineSweep(model, "weights", [200, 100], settings)
    made = sweep.restore(IMAGE, KEYS, [100])
    assert list(made) == [100]
    assert (made[100] == 5).all()
    assert [options for _, _, options in model.log] == [
        {"timestep": 100, "calls": 20, "seed": seed} for seed in (4, 5, 6)
    ]  # fmt: skip
    assert sweep.fingerprint(200) == restoration_identity(settings, "anoddpm", "weights", 200)
    for timesteps, calls in (([0], None), ([1001], None), ([10], 11)):
        with pytest.raises(AgfasError, match="anoddpm: "):
            BaselineSweep(model, "weights", timesteps, AncestralSettings(calls=calls))
    with pytest.raises(AgfasError, match="each once"):
        BaselineSweep(model, "weights", [200, 200])


def test_one_of_a_sweep_and_a_sweep_of_one():
    sweep = DfgSweep(Generator(), [201, 401], "weights", settings=TEN)
    one = OneOfSweep(sweep, 401)
    assert one.device == torch.device("cpu")
    assert one.fingerprint() == sweep.fingerprint(401)
    torch.testing.assert_close(one(IMAGE, KEYS), sweep.restore(IMAGE, KEYS, [401])[401])
    assert as_sweep(sweep) is sweep
    single = as_sweep(one)
    assert isinstance(single, SingleSource)
    assert (single.timesteps, single.device) == ((401,), torch.device("cpu"))
    assert single.fingerprint(0) == one.fingerprint()
    torch.testing.assert_close(single.restore(IMAGE, KEYS, [401])[401], one(IMAGE, KEYS))
    bare = SingleSource(SimpleNamespace())  # type: ignore[arg-type]
    assert (bare.timesteps, bare.device) == ((0,), None)


def test_a_job_of_the_usual_size(tmp_path):
    sweep = BaselineSweep(Model("memae"), "weights")  # type: ignore[arg-type]
    faces = ArrayFaces(KEYS, np.zeros((2, 4, 6, 3), np.uint8))
    job = CueJob.open(faces, sweep, tmp_path, dataset_fingerprint="faces")
    ((timestep, store),) = job.makers[0].stores.items()
    assert (timestep, store.shard_size, job.makers[0].batch_size) == (0, 256, 32)
    assert store.identity["image_size"] == [4, 6]
    assert job.makers[0].made()["batch_size"] == 32
    assert job.folders == {0: store.folder}
    for name in ("batch_size", "shard_size"):
        with pytest.raises(AgfasError, match=f"{name} must be at least 1, not 0"):
            CueJob.open(faces, sweep, tmp_path, dataset_fingerprint="faces", **{name: 0})
    with pytest.raises(AgfasError, match="there is no face to make a cue of"):
        CueJob.open(ArrayFaces([], faces.images[:0]), sweep, tmp_path, dataset_fingerprint="faces")


def test_batches_and_their_pixels():
    assert batches_of(range(4, 11), 3) == [range(4, 7), range(7, 10), range(10, 11)]
    assert [whole_batches(*sizes) for sizes in ((256, 32), (4, 3), (5, 3), (1, 32), (7, 2))] == [256, 3, 6, 32, 8]
    restored = torch.tensor([-2.0, -1.0, 0.0, 1.0]).reshape(1, 1, 2, 2).expand(2, 3, 2, 2).clone()
    assert to_pixels(restored, KEYS)[0, :, :, 0].tolist() == [[0, 0], [128, 255]]
    restored[1, 2, 0, 0] = float("inf")
    with pytest.raises(AgfasError, match="the restoration of b has values that are not finite"):
        to_pixels(restored, KEYS)
    check_timesteps([0])
    assert CueSettings().timestep == 801
