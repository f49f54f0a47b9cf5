"""The cue job: equal bytes however it is run, and one encode for several t."""

from __future__ import annotations

import multiprocessing

import numpy as np
import pytest
import torch
from cue_job_parts import AUTOENCODER, COUNT, FACES, KEYS, SIZE, WEIGHTS, Blur, make, shard_bytes, tiny_pipeline
from datasets import Dataset, Features, Image, Value
from diffusers import AutoencoderKL
from PIL import Image as Pictures

from pipelines.cues.custom import CueSource
from pipelines.cues.faces import ArrayFaces, as_face_images
from pipelines.cues.job import CueMaker, OrderedFaces, filling, to_pixels
from pipelines.cues.settings import RestorationSettings
from pipelines.cues.shards import ShardStore
from pipelines.cues.sources import CueSweep, DfgSweep, OneOfSweep
from pipelines.cues.store import CueStore
from pipelines.errors import AgfasError
from pipelines.fingerprint import folder_sha256
from pipelines.pixels import to_unit_range

TEN = RestorationSettings(num_inference_steps=10)


def source(pipeline, timestep: int = 201, weights: str = WEIGHTS, **settings) -> OneOfSweep:
    """The generator at one t, on a grid of ten."""
    chosen = TEN.model_copy(update=settings)
    return OneOfSweep(DfgSweep(pipeline, [timestep], weights, AUTOENCODER, chosen), timestep)


@pytest.fixture(scope="module")
def pipeline():
    return tiny_pipeline()


@pytest.fixture
def sweep(pipeline):
    return DfgSweep(pipeline, [0, 201, 401], WEIGHTS, AUTOENCODER, TEN)


def test_cues_are_the_pipelines_own(tmp_path, pipeline, sweep):
    folders = make(tmp_path, sweep)
    assert set(folders) == {0, 201, 401}
    image = to_unit_range(FACES.images)
    for timestep, folder in folders.items():
        expected = pipeline(image, timestep=timestep, num_inference_steps=10, keys=KEYS).image
        pixels = CueStore.open(folder).join(KEYS)[:].astype(int)
        # Another batch shape than the job's: at most a grey level, on a few values.
        difference = np.abs(pixels - to_pixels(expected, KEYS))
        assert difference.max() <= 1
        assert (difference > 0).mean() < 1e-3
    lower, higher = (CueStore.open(folders[t]).reconstructions(KEYS) for t in (201, 401))
    assert not np.array_equal(lower, higher)


def test_several_t_share_encode_and_identity(tmp_path, monkeypatch):
    counts = dict.fromkeys(("encode_posterior", "identity_tokens", "restore_latents", "decode"), 0)
    pipeline = tiny_pipeline()
    for name in counts:
        method = getattr(pipeline, name)

        def counted(*arguments, name=name, method=method, **options):
            counts[name] += len(arguments[0])
            return method(*arguments, **options)

        monkeypatch.setattr(pipeline, name, counted)
    sweep = DfgSweep(pipeline, [0, 201, 401, 601], WEIGHTS, AUTOENCODER, RestorationSettings(num_inference_steps=5))
    make(tmp_path, sweep, batch_size=4, shard_size=4)
    faces = 12  # the last batch is filled up to four
    assert counts == {
        "encode_posterior": faces,
        "identity_tokens": faces,
        "restore_latents": 3 * faces,
        "decode": 4 * faces,
    }
    make(tmp_path, sweep)
    assert counts["encode_posterior"] == faces


@pytest.mark.slow
def test_a_sweep_gives_the_bytes_of_its_single_sources(tmp_path, pipeline, sweep):
    together = make(tmp_path / "together", sweep)
    for timestep in (0, 201, 401):
        alone = make(tmp_path / "alone", source(pipeline, timestep).sweep)[timestep]
        assert alone.name == together[timestep].name
        assert shard_bytes(alone) == shard_bytes(together[timestep])


def test_several_samples_are_averaged(tmp_path, pipeline):
    image, keys = torch.rand(3, 3, 32, 32) * 2 - 1, ["a", "b", "c"]
    mean = source(pipeline, seed=5, samples=3)
    singles = [source(pipeline, seed=seed) for seed in (5, 6, 7)]
    restored = [single(image, keys) for single in singles]
    torch.testing.assert_close(mean(image, keys), sum(restored) / 3, atol=1e-6, rtol=0)
    assert not torch.equal(restored[0], restored[1])
    assert mean.fingerprint() != singles[0].fingerprint()


def test_a_run_makes_only_what_is_missing(tmp_path, pipeline, sweep):
    clean = {t: shard_bytes(folder) for t, folder in make(tmp_path / "clean", sweep).items()}
    folders = make(tmp_path / "late", source(pipeline, 401).sweep)
    ShardStore.open(folders[401]).revoke(1)
    folders = make(tmp_path / "late", sweep)
    assert {t: shard_bytes(folder) for t, folder in folders.items()} == clean


def process(root, rank, world_size):
    torch.set_num_threads(1)
    make(root, DfgSweep(tiny_pipeline(), [0, 201], WEIGHTS, AUTOENCODER, TEN), rank=rank, world_size=world_size)


@pytest.mark.slow
def test_one_and_two_processes_give_the_same_bytes(tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    process(tmp_path / "one", 0, 1)
    torch.set_num_threads(threads)
    context = multiprocessing.get_context("spawn")
    children = [context.Process(target=process, args=(tmp_path / "two", rank, 2)) for rank in (0, 1)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    names = sorted(folder.name for folder in (tmp_path / "one").iterdir())
    assert names == sorted(folder.name for folder in (tmp_path / "two").iterdir())
    for name in names:
        assert shard_bytes(tmp_path / "one" / name) == shard_bytes(tmp_path / "two" / name)


def test_batches_have_one_shape_and_each_face_its_own_key(tmp_path):
    source = Blur()
    folder = make(tmp_path, source, batch_size=3, shard_size=4)[3]
    assert {shape for shape, _ in source.calls} == {(3, 3, SIZE, SIZE)}
    ordered = sorted(KEYS)
    assert [keys for _, keys in source.calls[::3]] == [ordered[:3], [*ordered[9:], ordered[10]]]
    expected = to_pixels(Blur()(to_unit_range(FACES.images), KEYS), KEYS)
    np.testing.assert_array_equal(CueStore.open(folder).join(KEYS)[:], expected)


def padded_calls(source):
    """Numbers of the calls in which a face is repeated."""
    return [number for number, (_, keys) in enumerate(source.calls) if len(set(keys)) < len(keys)]


@pytest.mark.parametrize(("batch_size", "shard_size"), [(3, 4), (4, 6), (5, 2), (2, 7), (1, 1), (4, 256)])
def test_only_the_last_batch_of_a_job_is_padded(tmp_path, batch_size, shard_size):
    source = Blur()
    folder = make(tmp_path, source, batch_size=batch_size, shard_size=shard_size)[3]
    assert {shape[0] for shape, _ in source.calls} == {batch_size}
    assert len(source.calls) == -(-COUNT // batch_size)
    assert set(padded_calls(source)) <= {len(source.calls) - 1}
    expected = to_pixels(Blur()(to_unit_range(FACES.images), KEYS), KEYS)
    np.testing.assert_array_equal(CueStore.open(folder).join(KEYS)[:], expected)


@pytest.mark.parametrize("size", [2, *(pytest.param(size, marks=pytest.mark.slow) for size in (3, 4))])
def test_other_shards_hold_the_same_bytes_of_a_generators_cues(tmp_path, pipeline, size):
    """Equal bytes at equal batch shape, whatever the division into shards and the padding of each."""
    whole = CueStore.open(make(tmp_path / "whole", source(pipeline).sweep, batch_size=size, shard_size=COUNT)[201])
    sweep = source(pipeline).sweep
    store = ShardStore.create_or_open(tmp_path / "old", whole.shards.identity, sorted(KEYS), 5)
    old = CueMaker(OrderedFaces.of(FACES), sweep, {201: store}, size)
    old.run(show_progress=False)
    np.testing.assert_array_equal(CueStore.open(store.folder).join(KEYS)[:], whole.join(KEYS)[:])


def test_batches_get_smaller_to_fill_the_shards_of_a_store_that_exists(tmp_path):
    source = Blur()
    make(tmp_path, source, batch_size=4, shard_size=4)
    ShardStore.open(next(tmp_path.iterdir())).revoke(0)
    source.calls.clear()
    make(tmp_path, source, batch_size=3, shard_size=4)
    assert [keys for _, keys in source.calls] == [sorted(KEYS)[:2], sorted(KEYS)[2:4]]
    assert [filling(batch, shard) for batch, shard in ((48, 256), (300, 256), (32, 256), (48, 251), (1, 7))] == [
        32, 256, 32, 42, 1,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "splits",
    [
        pytest.param([(0, 2, 3)], marks=pytest.mark.slow),
        pytest.param([(1, 2, 2), (0, 2, 1)], marks=pytest.mark.slow),
        [(2, 3, 1), (5, 8, 4), (0, 1, 1)],
    ],
)
def test_any_split_of_the_tasks_gives_the_same_bytes(tmp_path, sweep, splits):
    clean = {t: shard_bytes(folder) for t, folder in make(tmp_path / "clean", sweep).items()}
    for rank, world_size, batches in splits:
        with pytest.raises(KeyboardInterrupt):
            make(tmp_path / "split", Interrupted(sweep, batches), rank=rank, world_size=world_size)
    folders = make(tmp_path / "split", sweep)
    assert {t: shard_bytes(folder) for t, folder in folders.items()} == clean


class Interrupted:
    """A sweep that is stopped from the keyboard after some batches."""

    def __init__(self, sweep, batches):
        self.sweep, self.batches, self.timesteps = sweep, batches, sweep.timesteps

    def fingerprint(self, timestep):
        return self.sweep.fingerprint(timestep)

    def restore(self, image, keys, timesteps):
        if self.batches == 0:
            raise KeyboardInterrupt
        self.batches -= 1
        return self.sweep.restore(image, keys, timesteps)


@pytest.mark.parametrize(("batch_size", "shard_size"), [(1, 1), (5, 7), (32, 256)])
def test_the_order_of_the_dataset_does_not_enter(tmp_path, batch_size, shard_size):
    turned = ArrayFaces(KEYS[::-1], FACES.images[::-1])
    options = {"batch_size": batch_size, "shard_size": shard_size}
    one, other = (
        make(tmp_path / "1", Blur(), **options)[3],
        make(tmp_path / "2", Blur(), turned, **options)[3],
    )
    assert shard_bytes(one) == shard_bytes(other)


def test_residual_statistics(tmp_path):
    store = CueStore.open(make(tmp_path, Blur())[3])
    joined = store.join(KEYS)
    residual = (FACES.images.astype(np.float64) - joined[:]).reshape(COUNT, -1) / 127.5
    np.testing.assert_allclose(joined.residual_mean(), residual.mean(1), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(joined.residual_std(), residual.std(1, ddof=1), rtol=1e-6)
    assert joined.shape == (COUNT, SIZE, SIZE, 3)
    np.testing.assert_array_equal(joined[3], joined[[3]][0])


def test_identity_names_the_store_and_nothing_else_does(tmp_path, pipeline):
    def folder(**options):
        made = make(tmp_path, source(pipeline, **options).sweep, faces=ArrayFaces(KEYS[:1], FACES.images[:1]))
        return next(iter(made.values())).name

    one = folder()
    assert folder() == one
    others = {folder(timestep=301), folder(num_inference_steps=5), folder(seed=1), folder(weights="v")}
    others |= {folder(posterior="sample"), folder(scheduler="pndm_cut")}
    assert len(others | {one}) == 7


def test_the_released_sampling_is_the_pipelines_own():
    kl = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 8, 8), layers_per_block=1, norm_num_groups=4, latent_channels=8,
    ).eval()  # fmt: skip
    pipeline, image = tiny_pipeline(kl), to_unit_range(FACES.images[:2])
    settings = RestorationSettings(num_inference_steps=10, scheduler="pndm_cut", posterior="sample", seed=5, samples=2)
    sweep = DfgSweep(pipeline, [0, 201], WEIGHTS, AUTOENCODER, settings)
    found = sweep.restore(image, KEYS[:2], [0, 201])
    options = {"timestep": 201, "num_inference_steps": 10, "keys": KEYS[:2], "sampler": "pndm_cut"}
    each = [pipeline(image, **options, posterior="sample", seed=seed).image for seed in (5, 6)]
    torch.testing.assert_close(found[201], (each[0] + each[1]) / 2)
    assert not torch.allclose(found[201], sum(pipeline(image, **options, seed=seed).image for seed in (5, 6)) / 2)
    torch.testing.assert_close(found[0], pipeline(image, timestep=0).image)
    assert "posterior" not in sweep.fingerprint(0)
    assert sweep.fingerprint(201)["posterior"] == "sample"
    assert "posterior" not in DfgSweep(pipeline, [201], WEIGHTS, settings=TEN).fingerprint(201)  # older stores stay


def test_the_weights_hash_covers_the_noise_schedule(tmp_path, pipeline):
    pipeline.save_pretrained(tmp_path)
    before = folder_sha256(tmp_path)
    schedule = tmp_path / "scheduler" / "scheduler_config.json"
    schedule.write_text(schedule.read_text().replace("scaled_linear", "linear"))
    assert folder_sha256(tmp_path) != before


def test_protocols():
    sweep = DfgSweep(tiny_pipeline(), [201], WEIGHTS, settings=TEN)
    assert isinstance(sweep, CueSweep)
    assert isinstance(Blur(), CueSource)
    assert not isinstance(Blur(), CueSweep)


@pytest.mark.parametrize(
    ("timesteps", "message"),
    [
        ([], "each once"),
        ([201, 201], "each once"),
        ([0], "autoencoder_sha256"),
        ([202], "not on the grid of 10"),
    ],
)
def test_sweeps_that_cannot_be(pipeline, timesteps, message):
    with pytest.raises(AgfasError, match=message):
        DfgSweep(pipeline, timesteps, WEIGHTS, settings=TEN)


def test_values_that_are_not_finite_name_the_face(tmp_path):
    class Broken(Blur):
        def __call__(self, image, keys):
            return torch.where(torch.tensor([key == KEYS[3] for key in keys])[:, None, None, None], torch.nan, image)

    with pytest.raises(AgfasError, match=f"restoration of {KEYS[3]} has values that are not finite"):
        make(tmp_path, Broken())


def test_datasets_are_decoded(tmp_path):
    dataset = Dataset.from_dict(
        {"key": KEYS, "image": [Pictures.fromarray(picture) for picture in FACES.images]},
        features=Features({"key": Value("string"), "image": Image()}),
    )
    assert shard_bytes(make(tmp_path / "1", Blur(), dataset)[3]) == shard_bytes(make(tmp_path / "2", Blur())[3])
    wide = Dataset.from_dict(
        {"key": ["a", "b"], "image": [Pictures.new("RGB", (8, 8)), Pictures.new("RGB", (9, 8))]},
        features=Features({"key": Value("string"), "image": Image()}),
    )
    with pytest.raises(AgfasError, match="8x8, 9x8"):
        make(tmp_path, Blur(), wide)
    truncated = Dataset.from_dict(
        {"key": ["a"], "image": [{"bytes": b"\x89PNG\r\n\x1a\nrubbish", "path": None}]},
        features=Features({"key": Value("string"), "image": Image()}),
    )
    with pytest.raises(AgfasError, match="picture of a cannot be decoded"):
        make(tmp_path, Blur(), truncated)
    with pytest.raises(AgfasError, match="not int"):
        as_face_images(7)


def test_no_face_and_no_batch(tmp_path):
    with pytest.raises(AgfasError, match="dataset is empty"):
        OrderedFaces.of(ArrayFaces([], FACES.images[:0]))
    with pytest.raises(AgfasError, match="batch_size"):
        make(tmp_path, Blur(), batch_size=0)
