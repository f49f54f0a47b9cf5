"""The generator's parts before its training: what they are fitted to, stored as, and refused for; by hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from training_parts import make_faces

from pipelines.errors import AgfasError
from pipelines.experiment.config import Experiment
from pipelines.experiment.file import build_experiment
from pipelines.experiment.generator import PatchSettings
from pipelines.pixels import to_unit_range
from pipelines.stages import train_baseline, train_dfg
from pipelines.training import latents
from pipelines.training.latents import PaddedTokens, SomeFaces, StoredLatents, nested_share, store_latents


def settings(**generator):
    return build_experiment({"generator": generator}, "the test").generator


class Views:
    """Latents (n, 1, 1, 1) that name row and view, and tokens (n, 1, 2)."""

    views = 2
    store = SimpleNamespace(keys=["a", "b", "c", "d"])

    def __len__(self):
        return 10

    def read(self, rows, views):
        return (rows + 100.0 * views)[:, None, None, None].astype(np.float32), np.ones((len(rows), 1, 2), np.float32)


def test_tokens_are_padded_with_zeros_behind():
    padded = PaddedTokens(Views(), 5)
    assert (len(padded), padded.views) == (10, 2)
    found, tokens = padded.read(np.array([3]), np.array([1]))
    assert found.item() == 103
    assert tokens.tolist() == [[[1, 1, 0, 0, 0]]]
    assert PaddedTokens(Views(), 2).read(np.array([3]), np.array([1]))[1].shape == (1, 1, 2)


def test_some_faces_are_counted_among_themselves():
    some = SomeFaces(Views(), np.array([2, 5, 7]))
    assert (len(some), some.views) == (3, 2)
    assert some.read(np.array([2, 0]), np.array([0, 1]))[0].ravel().tolist() == [7, 102]


def test_views_are_read_from_their_own_arrays_in_order():
    class Store:
        keys = ("a", "b", "c")

        def read(self, name, rows):
            kind, view = name.split("_")
            return (rows + 100 * int(view) + (1000 if kind == "tokens" else 0))[:, None].astype(np.float64)

    stored = StoredLatents(Store(), 2)
    assert len(stored) == 3
    found = stored.read(np.array([2, 0, 1]), np.array([1, 0, 1]))
    assert [part.ravel().tolist() for part in found] == [[102, 0, 101], [1102, 1000, 1101]]
    assert {part.dtype for part in found} == {np.dtype(np.float32)}


def test_a_share_is_at_least_one_face_and_rounded_up():
    keys = [f"k{number}" for number in range(10)]
    assert [len(nested_share(keys, share)) for share in (0.01, 0.1, 0.11, 0.95, 1.0)] == [1, 1, 2, 10, 10]
    found = nested_share(keys, 0.5)
    assert found.dtype == np.int64
    assert found.tolist() == sorted(found.tolist())


class Encoder(torch.nn.Module):
    """Embeds faces by their first pixel; remembers how many at a time, and where it was."""

    def __init__(self):
        super().__init__()
        self.sizes, self.places = [], []

    def to(self, place):
        self.places.append(str(place))
        return self

    def forward(self, image):
        self.sizes.append(len(image))
        return image[:, :2, 0, :1].double()


@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("known", [True, False])
def test_latents_are_stored_by_views_and_batches(tmp_path, monkeypatch, flip, known):
    monkeypatch.setattr(latents, "_SHARD", 20)
    monkeypatch.setattr(latents, "_BATCH", 8)
    exact = []
    monkeypatch.setattr(latents, "use_tf32", exact.append)
    encoded = []
    monkeypatch.setattr(latents, "encode_latents", lambda model, part: encoded.append(len(part)) or part.double() * 2)
    faces, rows = make_faces(), np.arange(1, 48, 2)
    autoencoder, identity = Encoder(), Encoder() if known else None
    stored = store_latents(tmp_path, faces, rows, autoencoder, identity, {"a": 1}, flip)
    views = 2 if flip else 1
    assert (stored.views, len(stored)) == (views, 24)
    images = to_unit_range(faces.images[rows])
    for view in range(views):
        turned = images.flip(-1) if view else images
        found, tokens = stored.read(np.arange(24), np.full(24, view))
        np.testing.assert_array_equal(found, turned * 2)
        np.testing.assert_array_equal(tokens, turned[:, :2, 0, :1] if known else np.zeros((24, 1, 1)))
    assert encoded == [8, 8, 4] * views + [4] * views
    assert autoencoder.places == [str(latents.device()), "cpu"]
    assert exact == [False]
    if known:
        assert identity.sizes == encoded
    again = store_latents(tmp_path, faces, rows, autoencoder, identity, {"a": 1}, flip)
    assert (exact, len(encoded)) == ([False], 4 * views)  # all is there
    assert again.store.folder == stored.store.folder
    others = [store_latents(tmp_path, faces, rows[:-1], autoencoder, identity, {"a": 1}, flip).store.folder]
    others.append(store_latents(tmp_path, faces, rows, autoencoder, identity, {"a": 2}, flip).store.folder)
    assert len({*others, stored.store.folder}) == 3


def test_an_autoencoder_is_fitted_to_faces_spread_over_all(monkeypatch):
    faces, fitted = make_faces(), []
    monkeypatch.setattr(train_dfg, "_FIT_FACES", 3)

    class Patch:
        def __init__(self, *given, **more):
            fitted.append((given, more))

        def fit(self, images):
            fitted.append(images)

        def eval(self):
            return "fitted"

    monkeypatch.setattr(train_dfg, "PatchAutoencoder", Patch)
    chosen = PatchSettings(patch_size=2, latent_channels=5, whitening=0.5)
    assert train_dfg.build_autoencoder(chosen, faces, np.arange(1, 12)) == "fitted"
    assert fitted[0] == ((2, 5), {"whitening": 0.5})
    assert torch.equal(fitted[1], to_unit_range(faces.images[[1, 4, 7, 10]]))
    train_dfg.build_autoencoder(chosen, faces, np.arange(2))
    assert len(fitted[3]) == 2


def test_the_scale_of_given_weights_is_measured_and_mistakes_are_said(monkeypatch):
    faces, seen = make_faces(), []
    monkeypatch.setattr(train_dfg, "_SCALE_FACES", 4)
    model = SimpleNamespace(eval=lambda: "a model")
    monkeypatch.setattr(train_dfg, "_load_autoencoder", lambda chosen: model)
    monkeypatch.setattr(train_dfg, "calibrate_scale", lambda *given: seen.append(given))
    taesd = settings(autoencoder={"name": "taesd", "encoder": "a", "decoder": "b"}).autoencoder
    pretrained = settings(autoencoder={"name": "pretrained", "path": "a"}).autoencoder
    assert train_dfg.build_autoencoder(taesd, faces, np.arange(9)) == "a model"
    ((calibrated, images),) = seen
    assert calibrated == "a model"
    assert torch.equal(images, to_unit_range(faces.images[[0, 2, 4, 6, 8]]))
    assert train_dfg.build_autoencoder(pretrained, faces, np.arange(9)) == "a model"
    assert len(seen) == 1

    def fails(chosen):
        raise OSError("no file")

    monkeypatch.setattr(train_dfg, "_load_autoencoder", fails)
    with pytest.raises(AgfasError, match=r"^The autoencoder of generator\.autoencoder cannot be loaded: no file$"):
        train_dfg.build_autoencoder(taesd, faces, np.arange(9))


def test_faces_to_learn_from_are_none_if_all_weights_are_given(monkeypatch):
    monkeypatch.setattr(train_baseline, "live_faces", lambda faces, domains: domains)
    given = {"train": False, "unet_weights": "x"}
    pretrained = {"autoencoder": {"name": "pretrained", "path": "y"}}
    assert len(train_dfg._faces_to_learn_from(settings(**given, **pretrained), None)) == 0
    assert train_dfg._faces_to_learn_from(settings(**given), None) == ["corpus"]
    assert train_dfg._faces_to_learn_from(settings(**pretrained), None) == ["corpus"]


def test_the_variance_of_latents_is_measured_on_faces_spread_over_all(monkeypatch):
    monkeypatch.setattr(train_dfg, "_SCALE_FACES", 4)
    assert train_dfg.latent_variance(Views()) == [(0 + 4 + 16 + 36 + 64) / 5]


@pytest.mark.parametrize("preset", ["tiny", "compact"])
@pytest.mark.parametrize("more", [{}, {"unet": {"cross_attention_dim": 7}}, {"precondition": True}])
def test_a_unet_is_built_for_its_latents_and_tokens(monkeypatch, preset, more):
    built = []
    monkeypatch.setattr(train_dfg, "build_unet", lambda name, **options: built.append((name, options)) or torch.rand(1))
    monkeypatch.setattr(train_dfg, "latent_variance", lambda views: [1.5])
    torch.manual_seed(7)
    first = train_dfg._new_unet(settings(preset=preset, **more), Views())
    options = dict(more.get("unet", {}))
    if preset == "tiny" and not options:
        options["cross_attention_dim"] = 2
    if more.get("precondition"):
        options["latent_variance"] = [1.5]
    assert built == [(preset, {"in_channels": 1, "sample_size": 1, **options})]
    torch.manual_seed(0)
    assert torch.equal(first, torch.rand(1))  # from a seed of its own

    def fails(*_, **__):
        raise ValueError("No.")

    monkeypatch.setattr(train_dfg, "build_unet", fails)
    with pytest.raises(AgfasError, match=r"^The U-Net cannot be built: No\. Take fewer generator\.autoencoder\."):
        train_dfg._new_unet(settings(preset=preset), Views())


def test_tokens_are_projected_where_it_is_asked_and_there_are_any():
    unet, identity = SimpleNamespace(config={"cross_attention_dim": 12}), SimpleNamespace(token_dim=8)
    assert train_dfg._projection(settings(), unet, identity) is None
    assert train_dfg._projection(settings(tokens="projection"), unet, identity).linear.weight.shape == (12, 8)
    with pytest.raises(
        AgfasError, match=r"generator\.tokens = projection projects identity tokens, but identity\.name"
    ):
        train_dfg._projection(settings(tokens="projection"), unet, None)


def test_batches_of_the_generator_are_padded_unless_tokens_are_projected():
    pipeline = SimpleNamespace(
        token_projection=None, unet=SimpleNamespace(config={"cross_attention_dim": 4}),
        scheduler=SimpleNamespace(config={"num_train_timesteps": 30}),
    )  # fmt: skip
    chosen = settings(condition_dropout=0.25, loop={"batch_size": 6})
    made = train_dfg._batches(chosen, pipeline, Views())
    assert (made.size, made.train_timesteps, made.seed, made.condition_dropout) == (6, 30, 0, 0.25)
    assert made.views.width == 4
    pipeline.token_projection = "projected"
    assert isinstance(train_dfg._batches(chosen, pipeline, Views()).views, Views)


def test_a_format_is_asked_for_by_what_lies_in_the_folder(tmp_path):
    (tmp_path / "unet").mkdir()
    assert train_dfg._in_safetensors(str(tmp_path), "unet") is False
    (tmp_path / "unet" / "diffusion_pytorch_model.fp16.safetensors").touch()
    assert train_dfg._in_safetensors(str(tmp_path), "unet") is True
    assert train_dfg._in_safetensors(str(tmp_path / "unet"), None) is True
    assert train_dfg._in_safetensors(str(tmp_path), None) is False
    assert train_dfg._in_safetensors("an/id of the hub", "unet") is None


def test_weights_and_parts_that_do_not_fit_are_said(monkeypatch, tmp_path):
    with pytest.raises(AgfasError, match=rf"^generator\.unet_weights = {tmp_path} cannot be loaded: "):
        train_dfg._start_from(settings(unet_weights=str(tmp_path)))

    def fails(*_):
        raise ValueError("No.")

    monkeypatch.setattr(train_dfg, "DeFakePipeline", fails)
    with pytest.raises(AgfasError, match=r"^The generator's parts do not fit each other: No\.$"):
        train_dfg._assemble(1, 2, 3, 4, 5)
    monkeypatch.setattr(train_dfg, "use_attention", fails)
    monkeypatch.setattr(train_dfg, "_new_unet", lambda *_: None)
    with pytest.raises(AgfasError, match=r"^generator\.No\.$"):
        train_dfg.build_pipeline(Experiment(), None, None, None)


@pytest.mark.parametrize(("name", "beside"), [("pipeline", True), ("model", False)])
def test_a_saved_model_leaves_what_names_it(monkeypatch, name, beside):
    finished, saved = [], []
    monkeypatch.setattr(train_baseline, "write_sealed", lambda folder, write: saved.append((folder, write)))
    monkeypatch.setattr(train_baseline, "folder_sha256", lambda folder: f"sum of {folder.name}")
    monkeypatch.setattr(train_baseline, "autoencoder_sha256", lambda folder: f"autoencoder of {folder.name}")
    network = torch.nn.Linear(3, 2)
    run = SimpleNamespace(folder=Path("r"), finish=finished.append)
    train_baseline.save(SimpleNamespace(save_pretrained="write"), network, run, name, 5)
    assert saved == [(Path("r") / name, "write")]
    more = {"autoencoder_sha256": f"autoencoder of {name}"} if beside else {}
    assert finished == [{"live_faces": 5, "parameters": 8, "weights_sha256": f"sum of {name}", **more}]


@pytest.mark.parametrize(("name", "steps"), [("memae", 0), ("anoddpm", 77)])
def test_a_baseline_is_trained_on_its_share_of_live_faces(monkeypatch, tmp_path, name, steps):
    more = {"train_timesteps": 77} if name == "anoddpm" else {}
    experiment = build_experiment(
        {"generator": {"name": name, "share": 0.5, "domains": ["a"], "flip": False, "loop": {"batch_size": 3}, **more},
         "cue": {"source": name, "timestep": 7}}, "the test"
    )  # fmt: skip
    faces, fitted, saved = make_faces(), [], []
    run = SimpleNamespace(folder=tmp_path, was_done=False)
    monkeypatch.setattr(
        train_baseline, "Workspace", lambda given: SimpleNamespace(generator=lambda: "g", generator_key=dict)
    )
    monkeypatch.setattr(train_baseline, "Run", lambda *given: run)
    objective = SimpleNamespace(model="model")
    monkeypatch.setattr(
        train_baseline, "build_baseline_training", lambda settings, side: fitted.append(side) or objective
    )
    monkeypatch.setattr(train_baseline, "fit", lambda *given, **how: fitted.append((given, how)))
    monkeypatch.setattr(train_baseline, "save", lambda *given: saved.append(given))
    assert train_baseline.run(experiment, faces, experiment.generator) == tmp_path
    side, ((given, batches, loop, training), how) = fitted
    assert (side, given, loop, training) == (8, objective, experiment.generator.loop, run)
    assert how == {"title": name, "after_step": None}
    live = np.flatnonzero((faces.domains == "a") & (faces.labels == 1))
    chosen = live[nested_share(faces.keys[live].tolist(), 0.5)]
    assert batches.indices.tolist() == chosen.tolist()
    assert (batches.size, batches.seed, batches.flip, batches.train_timesteps) == (3, 0, False, steps)
    assert saved == [("model", "model", run, "model", 6)]
    run.was_done = True
    assert train_baseline.run(experiment, None, experiment.generator) == tmp_path
    assert len(fitted) == 2
