"""The generator's variants, each one line of YAML: what it changes, and that nothing changes without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from output_folder import make_experiment, write_faces
from training_parts import SMALL_UNET, WHOLE, Killed, Views

from dfg.identity import IdentityEncoder
from dfg.objective import DenoisingObjective
from dfg.pipeline import DeFakePipeline
from dfg.schedule import sd_scheduler
from dfg.tokens import TokenProjection
from dfg.unet import PreconditionedUNet, build_unet
from pipelines.artefacts.cues import open_sweep
from pipelines.artefacts.faces import make_faces
from pipelines.artefacts.runs import load_maker
from pipelines.errors import AgfasError
from pipelines.experiment.config import Experiment
from pipelines.experiment.file import build_experiment, with_overrides
from pipelines.experiment.workspace import Workspace
from pipelines.files import write_json
from pipelines.fingerprint import fingerprint
from pipelines.stages import train_dfg, train_identity
from pipelines.training.batches import LatentBatches
from pipelines.training.latents import SomeFaces, nested_share
from pipelines.training.loop import fit
from pipelines.training.parallel import split
from pipelines.training.run import Run
from pipelines.training.settings import LoopSettings

LOOP = {"steps": 2, "batch_size": 4, "log_every": 1, "ema_decay": 0.5, "learning_rate": 1e-3}
GENERATOR: dict[str, Any] = {
    "domains": ["kiosk", "phone"],
    "autoencoder": {"name": "patch", "patch_size": 4, "latent_channels": 6},
    "unet": {**SMALL_UNET, "cross_attention_dim": 12},
    "loop": LOOP,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("variants")
    write_faces(folder / "faces", subjects=4)
    return folder / "run"


@pytest.fixture
def encoder(monkeypatch) -> IdentityEncoder:
    """49 tokens of 8 values for every experiment, without training."""
    made = IdentityEncoder.from_preset("tiny", widths=(4, 4, 4, 8), embedding_dim=None)
    monkeypatch.setattr(train_identity, "run", lambda experiment, faces: made)
    return made


def experiment_of(root: Path, **generator: Any) -> Experiment:
    return make_experiment(root, generator={**GENERATOR, **generator}, identity={"name": "trained"})


def trained(root: Path, **generator: Any) -> DeFakePipeline:
    """The generator as it was saved."""
    experiment = experiment_of(root, **generator)
    # The identity's own key would ask for a training; the encoder is made up.
    train_dfg.run(experiment, make_faces(experiment))
    return load_maker(experiment)


def test_what_a_failing_disk_left_behind_goes_at_the_next_start(root):
    experiment = experiment_of(root.with_name("left"))
    workspace = Workspace(experiment)
    make_faces(experiment)
    identity, generator = workspace.identity(), workspace.generator()
    for folder, key in ((identity, workspace.identity_key()), (generator, workspace.generator_key())):
        write_json(folder / "identity.json", key)
        write_json(folder / "done.json", {})
    left = [
        identity / "checkpoints" / "step_000001",
        generator / "checkpoints" / "step_000001",
        workspace.faces / f".pixels-{workspace.size}.npy.0123456789abcdef",
    ]
    for folder in left:
        folder.mkdir(parents=True)
    assert train_dfg.run(experiment, make_faces(experiment)) == generator
    assert not any(folder.exists() for folder in left)


def weights(pipeline: DeFakePipeline) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in pipeline.unet.parameters()])


@pytest.fixture
def plain(root, encoder) -> torch.Tensor:
    return weights(trained(root))


# Names


def key_of(experiment: Experiment, name: str) -> str:
    workspace = Workspace(experiment)
    workspace.faces_id = lambda: "faces"  # type: ignore[method-assign]
    workspace.identity_key = lambda: {"schema": 1}  # type: ignore[method-assign]
    return fingerprint(getattr(workspace, name)())


def test_the_defaults_keep_their_names():
    assert key_of(Experiment(), "generator_key") == "68a6d0755b606a3e"
    assert key_of(Experiment(), "detector_key") == "adeb2ef5cde0f60a"


@pytest.mark.parametrize(
    "changes",
    [
        {"generator.prediction": "v_prediction"},
        {"generator.min_snr_gamma": 5.0},
        {"generator.condition_dropout": 0.1},
        {"generator.tokens": "projection"},
        {"generator.share": 0.25},
        {"generator.unet_weights": "somewhere", "generator.train": False},
        {"generator.attention": "xformers"},
    ],
)
def test_a_variant_has_a_name_of_its_own(changes):
    names = [key_of(with_overrides(Experiment(), some), "generator_key") for some in ({}, changes)]
    assert names[0] != names[1]


def test_gradient_checkpointing_leaves_the_name():
    changed = with_overrides(Experiment(), {"generator.gradient_checkpointing": True})
    assert key_of(changed, "generator_key") == key_of(Experiment(), "generator_key")


CUE_OPTIONS: list[dict[str, Any]] = [
    {"cue.scheduler": "unipc"},
    {"cue.calls": 8},
    {"cue.guidance_scale": 2.0},
    {"cue.dtype": "bfloat16"},
    {"cue.autoencoder_dtype": "bfloat16"},
    {"cue.channels_last": True},
    {"cue.compile": True},
    {"cue.attention": "xformers"},
]


def test_cue_options_name_detectors_and_groups():
    found = [with_overrides(Experiment(), changes) for changes in ({}, *CUE_OPTIONS)]
    assert len({key_of(experiment, "detector_key") for experiment in found}) == len(found)
    assert len({key_of(experiment, "restoration") for experiment in found}) == len(found)
    other_t = with_overrides(Experiment(), {"cue.timestep": 401})
    assert key_of(other_t, "restoration") == key_of(Experiment(), "restoration")


# Training


def test_velocity_is_trained_saved_and_sampled(root, plain):
    pipeline = trained(root, prediction="v_prediction")
    assert pipeline.scheduler.config["prediction_type"] == "v_prediction"
    assert not torch.equal(weights(pipeline), plain)


def test_the_loss_is_weighted(root, plain):
    assert not torch.equal(weights(trained(root, min_snr_gamma=1.0)), plain)


def test_preconditioning_reaches_the_training(root, encoder):
    assert isinstance(trained(root, precondition=True).unet, PreconditionedUNet)


def test_gradients_are_the_same_with_checkpointing(root, plain):
    other = trained(root.with_name("checkpointing"), gradient_checkpointing=True)
    torch.testing.assert_close(weights(other), plain, atol=1e-6, rtol=1e-5)


def test_a_projection_is_learned_and_told_from_padding(root, encoder):
    pipeline = trained(root, tokens="projection")
    linear = pipeline.token_projection.linear
    assert linear.weight.shape == (12, 8)
    assert not torch.equal(linear.weight, torch.eye(12, 8))
    assert linear.bias.any()


def test_a_share_trains_on_those_faces_alone(root, plain, monkeypatch):
    read: list[tuple[SomeFaces, np.ndarray]] = []
    original = SomeFaces.read

    def spy(self, rows, views):
        read.append((self, self.rows[rows]))
        return original(self, rows, views)

    monkeypatch.setattr(SomeFaces, "read", spy)
    pipeline = trained(root, share=0.25, loop={**LOOP, "steps": 8})
    store, _ = read[0]
    allowed = nested_share(store.stored.store.keys, 0.25)
    seen = {int(row) for _, rows in read for row in rows}
    assert seen == set(allowed.tolist())
    assert len(store.stored) > len(allowed) > 1
    assert not torch.equal(weights(pipeline), plain)


def test_shares_are_nested_and_know_nothing_of_the_order():
    keys = [f"cam/s{i}/v/{i:03d}" for i in range(101)]
    chosen = {share: {keys[row] for row in nested_share(keys, share)} for share in (0.25, 0.5, 1.0)}
    assert [len(chosen[share]) for share in (0.25, 0.5, 1.0)] == [26, 51, 101]
    assert chosen[0.25] < chosen[0.5] < chosen[1.0]
    turned = keys[::-1]
    assert {turned[row] for row in nested_share(turned, 0.5)} == chosen[0.5]
    # Not the first ones: hashes scatter.
    assert chosen[0.25] != set(keys[:26])


def test_dropout_is_a_function_of_the_step_and_moves_no_other_draw():
    with_dropout, without = (LatentBatches(Views(), 8, 1000, 0, share) for share in (0.3, 0.0))
    whole = with_dropout(4, WHOLE)
    again = LatentBatches(Views(), 8, 1000, 0, 0.3)(4, WHOLE)
    halves = [with_dropout(4, rows)["dropped"] for rows in split(8, 2)]
    assert torch.equal(whole["dropped"], again["dropped"])
    assert torch.equal(whole["dropped"], torch.cat(halves))
    assert "dropped" not in without(4, WHOLE)
    for name, value in without(4, WHOLE).items():
        assert torch.equal(value, whole[name])
    dropped = torch.stack([with_dropout(step, WHOLE)["dropped"] for step in range(400)])
    assert abs(float(dropped.float().mean()) - 0.3) < 0.03
    assert not torch.equal(dropped[0], dropped[1]) or not torch.equal(dropped[1], dropped[2])


def test_a_killed_training_of_all_variants_ends_bit_identical(tmp_path):
    """Velocity, weights, dropout and projection together, killed at step 3 of 5 with a checkpoint at 2."""
    settings = LoopSettings(steps=5, batch_size=4, ema_decay=0.5, checkpoint_every=2, log_every=1)

    def objective():
        unet = build_unet("tiny", in_channels=2, sample_size=4, cross_attention_dim=12, **SMALL_UNET)
        projection = TokenProjection(5, 12)
        return DenoisingObjective(unet, sd_scheduler("v_prediction"), min_snr_gamma=5.0, projection=projection)

    def kill(step, model):
        if step == 3:
            raise Killed

    batches = LatentBatches(Views(), 4, 1000, 0, condition_dropout=0.5)
    whole, resumed = objective(), objective()
    fit(whole, batches, settings, Run(tmp_path / "whole", {}), title="whole")
    with pytest.raises(Killed):
        fit(objective(), batches, settings, Run(tmp_path / "killed", {}), title="killed", after_step=kill)
    fit(resumed, batches, settings, Run(tmp_path / "killed", {}), title="resumed")
    assert not torch.equal(whole.projection.linear.weight, torch.eye(12, 5))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_dropout_reaches_the_training(root, plain):
    assert not torch.equal(weights(trained(root, condition_dropout=0.5)), plain)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precondition": True, "prediction": "v_prediction"}, "prediction: epsilon"),
        ({"precondition": True, "unet_weights": "x"}, "unet_weights"),
        ({"train": False}, "unet_weights"),
        ({"train": False, "unet_weights": "x", "tokens": "projection"}, "train: true"),
        ({"share": 0.0}, "generator.share"),
        ({"condition_dropout": 1.0}, "condition_dropout"),
        ({"min_snr_gamma": 0.0}, "min_snr_gamma"),
    ],
)
def test_variants_that_cannot_be(changes, message):
    with pytest.raises(AgfasError, match=message):
        build_experiment({"generator": changes}, "a test")


def test_a_projection_needs_an_identity(root, monkeypatch):
    monkeypatch.setattr(train_identity, "run", lambda experiment, faces: None)
    experiment = with_overrides(
        experiment_of(root.with_name("bare"), tokens="projection"), {"identity": {"name": "none"}}
    )
    with pytest.raises(AgfasError, match=r"identity\.name is none"):
        train_dfg.run(experiment, make_faces(experiment))


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what to do without CUDA")
def test_xformers_without_cuda_is_one_sentence(root, encoder):
    with pytest.raises(AgfasError, match=r"generator\.attention: xformers needs a CUDA device"):
        trained(root.with_name("xformers"), attention="xformers")


# Cues


def test_cue_options_reach_the_sweep(root, encoder, plain):
    experiment = experiment_of(root)
    default = open_sweep(experiment, [401])
    assert default.fingerprint(401)["scheduler"] == "ddim"
    changes = {"cue.scheduler": "unipc", "cue.calls": 3, "cue.guidance_scale": 2.0, "cue.dtype": "bfloat16"}
    sweep = open_sweep(with_overrides(experiment, changes), [401])
    found = sweep.fingerprint(401)
    assert {name: found[name] for name in ("scheduler", "calls", "guidance_scale", "dtype")} == {
        "scheduler": "unipc",
        "calls": 3,
        "guidance_scale": 2.0,
        "dtype": "bfloat16",
    }
    assert sweep.pipeline.unet.dtype == torch.bfloat16
    assert sweep.pipeline.autoencoder.dtype == torch.float32
    batches: list[int] = []
    sweep.pipeline.unet.register_forward_pre_hook(lambda _, arguments: batches.append(len(arguments[0])))
    restored = sweep.restore(torch.rand(2, 3, 16, 16) * 2 - 1, ["a", "b"], [401])[401]
    assert batches == [4, 4, 4]  # three calls, with conditioned and unconditioned rows in each
    assert restored.isfinite().all()


@pytest.mark.slow
def test_channels_last_is_near_and_has_a_name(root, encoder, plain):
    experiment = experiment_of(root)
    image = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    one, other = (
        open_sweep(with_overrides(experiment, {"cue.channels_last": flag}), [0, 401]) for flag in (False, True)
    )
    first, second = (sweep.restore(image, ["a", "b"], [0, 401]) for sweep in (one, other))
    for timestep in (0, 401):
        torch.testing.assert_close(first[timestep], second[timestep], atol=1e-4, rtol=0)
        assert one.fingerprint(timestep) != other.fingerprint(timestep)


def test_the_autoencoders_type_is_its_own_and_names_every_t(root, encoder, plain):
    experiment = experiment_of(root)
    image = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    changed = with_overrides(experiment, {"cue.autoencoder_dtype": "bfloat16"})
    one, other = (open_sweep(settings, [0, 401]) for settings in (experiment, changed))
    assert (other.pipeline.unet.dtype, other.pipeline.autoencoder.dtype) == (torch.float32, torch.bfloat16)
    first, second = (sweep.restore(image, ["a", "b"], [0, 401]) for sweep in (one, other))
    for timestep in (0, 401):
        assert second[timestep].dtype == torch.float32
        assert not torch.equal(first[timestep], second[timestep])
        assert one.fingerprint(timestep) != other.fingerprint(timestep)
        assert float((first[timestep] - second[timestep]).abs().mean()) < 0.1


def test_guidance_without_an_identity_is_refused(root, monkeypatch):
    monkeypatch.setattr(train_identity, "run", lambda experiment, faces: None)
    experiment = with_overrides(
        experiment_of(root.with_name("bare")), {"identity": {"name": "none"}, "cue.guidance_scale": 2.0}
    )
    train_dfg.run(experiment, make_faces(experiment))
    with pytest.raises(AgfasError, match="guidance_scale"):
        open_sweep(experiment, [401])


def test_a_checkpoint_that_is_not_there_is_one_sentence(root, encoder, tmp_path):
    with pytest.raises(AgfasError, match=r"generator\.unet_weights = .*absent cannot be loaded"):
        trained(root.with_name("absent"), unet_weights=str(tmp_path / "absent"))
