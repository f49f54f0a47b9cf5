"""The cue job: equal bytes however it is run, one encode for several t, and verification."""

from __future__ import annotations

import multiprocessing
import threading
import time

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Image, Value
from PIL import Image as Pictures

from dfg.autoencoder import PatchAutoencoder
from dfg.identity import IdentityEncoder
from dfg.pipeline import DeFakePipeline
from dfg.schedule import sd_scheduler
from dfg.unet import build_unet
from pipelines.cues.faces import ArrayFaces, as_face_images
from pipelines.cues.job import OrderedFaces, run_cue_job, to_pixels, to_unit_range
from pipelines.cues.shards import ShardStore
from pipelines.cues.sources import AutoencoderSource, CueSource, CueSweep, DfgSource, DfgSweep
from pipelines.cues.store import CueStore, cue_status
from pipelines.cues.verify import verify_cues
from pipelines.errors import AgfasError

SIZE, COUNT = 16, 11
KEYS = [f"cam{i % 2}/s{i // 4}/v{i // 2}/{i:03d}" for i in range(COUNT)]
WEIGHTS, AUTOENCODER = "weights", "autoencoder"


def some_images(count=COUNT, seed=0):
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    return coarse.repeat(SIZE // 4, axis=1).repeat(SIZE // 4, axis=2)


FACES = ArrayFaces(KEYS, some_images())


def tiny_pipeline():
    autoencoder = PatchAutoencoder(patch_size=4, latent_channels=8)
    autoencoder.fit(to_unit_range(some_images(32, seed=1)))
    identity = IdentityEncoder.from_preset(
        "tiny", layers=(1, 1, 1, 1), widths=(4, 4, 4, 8), input_size=16, embedding_dim=None
    )
    unet = build_unet(
        "tiny",
        in_channels=8,
        sample_size=4,
        cross_attention_dim=8,
        block_out_channels=(8, 8, 8),
        attention_head_dim=4,
        norm_num_groups=4,
    )
    return DeFakePipeline(autoencoder, unet, sd_scheduler(), identity)


@pytest.fixture(scope="module")
def pipeline():
    return tiny_pipeline()


@pytest.fixture
def sweep(pipeline):
    return DfgSweep(pipeline, [0, 201, 401], WEIGHTS, AUTOENCODER, num_inference_steps=10)


class Blur:
    """A source without a model: values move half-way to their mean, and by a shift that the key decides."""

    timestep = 3

    def __init__(self, strength=0.5):
        self.strength = strength
        self.calls = []

    def fingerprint(self):
        return {"name": "blur", "strength": self.strength}

    def __call__(self, image, keys):
        self.calls.append((tuple(image.shape), list(keys)))
        shift = torch.tensor([int(key[-3:]) / 500 for key in keys])[:, None, None, None]
        return image + self.strength * (image.mean((1, 2, 3), keepdim=True) - image) + shift


def make(root, source, faces=FACES, **options):
    settings = {"dataset_fingerprint": "faces", "batch_size": 2, "shard_size": 4, "show_progress": False}
    return run_cue_job(faces, source, root, **{**settings, **options})


def shard_bytes(folder):
    return {path.name: path.read_bytes() for path in (folder / "shards").iterdir()}


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
    counts = dict.fromkeys(("encode", "identity_tokens", "restore_latents", "decode"), 0)
    pipeline = tiny_pipeline()
    for name in counts:
        method = getattr(pipeline, name)

        def counted(*arguments, name=name, method=method):
            counts[name] += len(arguments[0])
            return method(*arguments)

        monkeypatch.setattr(pipeline, name, counted)
    sweep = DfgSweep(pipeline, [0, 201, 401, 601], WEIGHTS, AUTOENCODER, num_inference_steps=5)
    make(tmp_path, sweep, batch_size=4, shard_size=4)
    faces = 12  # the last batch is filled up to four
    assert counts == {
        "encode": faces,
        "identity_tokens": faces,
        "restore_latents": 3 * faces,
        "decode": 4 * faces,
    }
    make(tmp_path, sweep)
    assert counts["encode"] == faces


def test_a_sweep_gives_the_bytes_of_its_single_sources(tmp_path, pipeline, sweep):
    together = make(tmp_path / "together", sweep)
    singles: dict[int, CueSource] = {0: AutoencoderSource(pipeline, AUTOENCODER)}
    singles.update({t: DfgSource(pipeline, WEIGHTS, t, num_inference_steps=10) for t in (201, 401)})
    for timestep, source in singles.items():
        alone = make(tmp_path / "alone", source)[timestep]
        assert alone.name == together[timestep].name
        assert shard_bytes(alone) == shard_bytes(together[timestep])


def test_several_samples_are_averaged(tmp_path, pipeline):
    image, keys = torch.rand(3, 3, 32, 32) * 2 - 1, ["a", "b", "c"]
    mean = DfgSource(pipeline, WEIGHTS, 201, num_inference_steps=10, seed=5, samples=3)
    singles = [DfgSource(pipeline, WEIGHTS, 201, num_inference_steps=10, seed=seed) for seed in (5, 6, 7)]
    restored = [single(image, keys) for single in singles]
    torch.testing.assert_close(mean(image, keys), sum(restored) / 3, atol=1e-6, rtol=0)
    assert not torch.equal(restored[0], restored[1])
    assert mean.fingerprint() != singles[0].fingerprint()


def test_a_run_makes_only_what_is_missing(tmp_path, pipeline, sweep):
    clean = {t: shard_bytes(folder) for t, folder in make(tmp_path / "clean", sweep).items()}
    folders = make(tmp_path / "late", DfgSource(pipeline, WEIGHTS, 401, num_inference_steps=10))
    ShardStore.open(folders[401]).revoke(1)
    folders = make(tmp_path / "late", sweep)
    assert {t: shard_bytes(folder) for t, folder in folders.items()} == clean


def process(root, rank, world_size):
    torch.set_num_threads(1)
    make(root, DfgSweep(tiny_pipeline(), [0, 201], WEIGHTS, AUTOENCODER, 10), rank=rank, world_size=world_size)


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
    assert [keys for _, keys in source.calls[:2]] == [ordered[:3], [ordered[3]] * 3]
    expected = to_pixels(Blur()(to_unit_range(FACES.images), KEYS), KEYS)
    np.testing.assert_array_equal(CueStore.open(folder).join(KEYS)[:], expected)


@pytest.mark.parametrize("splits", [[(0, 2, 3)], [(1, 2, 2), (0, 2, 1)], [(2, 3, 1), (5, 8, 4), (0, 1, 1)]])
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
        source = DfgSource(pipeline, **{"weights_sha256": "w", "timestep": 201, "num_inference_steps": 10, **options})
        return next(iter(make(tmp_path, source, faces=ArrayFaces(KEYS[:1], FACES.images[:1])).values())).name

    one = folder()
    assert folder() == one
    others = {folder(timestep=301), folder(num_inference_steps=5), folder(seed=1), folder(weights_sha256="v")}
    assert len(others | {one}) == 5
    scheduler = DfgSource(pipeline, "w").fingerprint()["scheduler"]
    assert (scheduler["class"], scheduler["beta_schedule"]) == ("DDIMScheduler", "scaled_linear")
    assert not any(name.startswith("_") for name in scheduler)  # such as diffusers' version


def test_protocols():
    sweep = DfgSweep(tiny_pipeline(), [201], WEIGHTS, num_inference_steps=10)
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
        DfgSweep(pipeline, timesteps, WEIGHTS, num_inference_steps=10)


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


def test_join_counts_and_names_what_is_missing(tmp_path):
    store = CueStore.open(make(tmp_path, Blur())[3])
    with pytest.raises(AgfasError, match=r"1 of 12 keys are not in .* first being elsewhere"):
        store.join([*KEYS, "elsewhere"])
    store.shards.revoke(1)
    missing = sorted(KEYS)[4:8]
    with pytest.raises(AgfasError, match=f"4 of 11 faces have no cue .* first being {', '.join(missing[:3])}"):
        store.join(sorted(KEYS))
    assert len(store.join(sorted(KEYS)[:4])) == 4
    status = cue_status(store.shards.folder)
    assert (status.finished_tasks, status.tasks, status.finished_rows, status.rows) == (2, 3, 7, 11)
    assert "7 of 11 rows, 2 of 3 shards" in str(status)


def test_other_stores_are_not_cue_stores(tmp_path):
    with pytest.raises(AgfasError, match="store of latents, not of cues"):
        CueStore(ShardStore.create_or_open(tmp_path, {"kind": "latents"}, KEYS, 4))


def test_verification_of_a_sound_store(tmp_path, pipeline):
    source = DfgSource(pipeline, WEIGHTS, 201, num_inference_steps=10)
    folder = make(tmp_path, source)[201]
    check = verify_cues(folder, FACES, source, sample=5)
    assert check.ok
    assert check.identical == check.faces >= 5
    assert (check.shards, check.broken, check.levels) == (3, (), 0)
    other_shape = verify_cues(folder, FACES, source, sample=5, batch_size=3)
    assert other_shape.levels <= 1
    assert "wrong checksum" in str(check)


def test_verification_drops_a_broken_shard_and_the_next_run_mends_it(tmp_path):
    folder = make(tmp_path, Blur())[3]
    clean = shard_bytes(folder)
    path = folder / "shards" / "00002.safetensors"
    broken = bytearray(path.read_bytes())
    broken[len(broken) // 2] ^= 1
    path.write_bytes(broken)
    check = verify_cues(folder, FACES, Blur())
    assert not check.ok
    assert check.broken == (2,)
    assert "made again by the next run: shard 2" in str(check)
    assert cue_status(folder).finished_tasks == 2
    make(tmp_path, Blur())
    assert shard_bytes(folder) == clean
    assert verify_cues(folder, FACES, Blur()).ok


def test_verification_finds_other_pixels(tmp_path):
    folder = make(tmp_path, Blur())[3]
    check = verify_cues(folder, ArrayFaces(KEYS, some_images(seed=5)), Blur())
    assert not check.ok
    assert check.levels > 1
    assert "more than rounding explains" in str(check)


def test_verification_refuses_another_source_or_dataset(tmp_path):
    folder = make(tmp_path, Blur())[3]
    with pytest.raises(AgfasError, match="these differ: strength"):
        verify_cues(folder, FACES, Blur(0.25))
    with pytest.raises(AgfasError, match="made over 11 faces, other ones than the 3"):
        verify_cues(folder, ArrayFaces(KEYS[:3], FACES.images[:3]), Blur())


class Staged:
    """A source of two stages, each of which takes its time."""

    timesteps = (3,)

    def __init__(self, seconds=0.0):
        self.seconds = seconds
        self.threads = set()

    def fingerprint(self, timestep):
        return {"name": "staged"}

    def prepare(self, image, keys, timesteps):
        assert not torch.is_grad_enabled()
        self.threads.add(threading.current_thread().name)
        time.sleep(self.seconds)
        return image.mean((2, 3), keepdim=True)

    def restore_prepared(self, prepared, keys, timesteps):
        time.sleep(self.seconds)
        shift = torch.tensor([int(key[-3:]) / 500 for key in keys])[:, None, None, None]
        return {t: (prepared + shift).expand(-1, -1, SIZE, SIZE) for t in timesteps}

    def restore(self, image, keys, timesteps):
        return self.restore_prepared(self.prepare(image, keys, timesteps), keys, timesteps)


class Plain(Staged):
    """The same without its stages."""

    prepare = None
    restore_prepared = None

    def restore(self, image, keys, timesteps):
        with torch.no_grad():
            return Staged.restore_prepared(self, Staged.prepare(self, image, keys, timesteps), keys, timesteps)


def test_stages_give_the_same_bytes_in_another_thread(tmp_path):
    staged = Staged()
    folder = make(tmp_path / "staged", staged)[3]
    assert staged.threads == {"ahead_0"}
    plain = Plain()
    assert isinstance(plain, CueSweep)
    assert shard_bytes(make(tmp_path / "plain", plain)[3]) == shard_bytes(folder)
    assert verify_cues(folder, FACES, SingleStaged()).ok


class SingleStaged(Staged):
    """The staged source as `verify_cues` takes it: without a t to be asked for."""

    timestep = 3

    def fingerprint(self):
        return {"name": "staged"}

    def __call__(self, image, keys):
        return self.restore(image, keys, (3,))[3]


def test_stages_overlap(tmp_path):
    """Eight batches of two stages of 40 ms take nine stages, not sixteen."""
    faces = ArrayFaces([f"{i:03d}" for i in range(16)], some_images(16))
    begun = time.perf_counter()
    make(tmp_path, Staged(0.04), faces, shard_size=16)
    assert time.perf_counter() - begun < 15 * 0.04


def test_a_picture_that_cannot_be_read_ahead_is_named(tmp_path):
    class Torn(ArrayFaces):
        def batch(self, indices):
            if 6 in indices:
                raise AgfasError("the picture of face 6 cannot be decoded")
            return super().batch(indices)

    with pytest.raises(AgfasError, match="face 6"):
        make(tmp_path, Blur(), Torn(KEYS, FACES.images))
