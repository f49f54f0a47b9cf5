"""Every kind of file that is written and read again to compute something: changed, it is named, or changes nothing."""

from __future__ import annotations

import hashlib
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from score_tables import make_table

from dfg.autoencoder import PatchAutoencoder
from dfg.baselines import build_baseline
from dfg.identity import IdentityEncoder
from dfg.pipeline import DeFakePipeline
from dfg.schedule import sd_scheduler
from dfg.unet import build_unet
from oanet.detectors import build_detector
from pipelines.artefacts.models import load_baseline, load_pipeline, snapshot_sha256
from pipelines.artefacts.runs import MODEL, SNAPSHOTS_SHA256, DetectorRun, load_identity
from pipelines.errors import AgfasError
from pipelines.evaluation.scores import RUN, read_scores
from pipelines.experiment.config import Experiment
from pipelines.experiment.plan import expand, read_plan, record
from pipelines.fingerprint import folder_sha256
from pipelines.seals import write_sealed
from pipelines.training.checkpoint import TrainingState, load_checkpoint, save_checkpoint
from pipelines.training.run import Run, read_done, run_id, score_path, snapshot_folder

STEP = 3


def weights(module: torch.nn.Module) -> Any:
    state = module.state_dict()
    return list(state), hashlib.sha256(b"".join(value.numpy().tobytes() for value in state.values())).hexdigest()


def tiny_generator(seed: int = 0) -> DeFakePipeline:
    autoencoder = PatchAutoencoder(4, 4)
    autoencoder.fit(torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1)
    blocks = {"down_block_types": ("DownBlock2D", "DownBlock2D"), "up_block_types": ("UpBlock2D", "UpBlock2D")}
    small: dict[str, Any] = {"block_out_channels": (4, 4), "norm_num_groups": 2, "layers_per_block": 1, **blocks}
    unet = build_unet("tiny", in_channels=4, sample_size=2, cross_attention_dim=8, seed=seed, **small)
    return DeFakePipeline(autoencoder, unet, sd_scheduler(), None)


def generator(folder: Path) -> None:
    write_sealed(folder / "pipeline", tiny_generator().save_pretrained)


def read_generator(folder: Path) -> Any:
    pipeline = load_pipeline(folder / "pipeline")
    return weights(pipeline.unet), weights(pipeline.autoencoder), dict(pipeline.scheduler.config)


def baseline(folder: Path) -> None:
    model = build_baseline("memae", "tiny", 16, channels=(4, 4), slots=4)
    write_sealed(folder / MODEL, model.save_pretrained)


def identity(folder: Path) -> None:
    run = Run(folder, {"schema": 2})
    encoder = IdentityEncoder.from_preset("tiny", widths=(4, 4, 4, 8), embedding_dim=8)
    write_sealed(folder / MODEL, encoder.save_pretrained)
    run.finish({"weights_sha256": folder_sha256(folder / MODEL)})


def detector(folder: Path, seed: int = 0) -> None:
    run = Run(folder, {"seed": seed})
    snapshot = snapshot_folder(folder, STEP)
    build_detector("cdcn", preset="tiny", seed=seed, width=4).save_pretrained(snapshot)
    run.log({"step": STEP, "loss": 0.25})
    run.finish({"snapshots": [STEP], SNAPSHOTS_SHA256: {str(STEP): snapshot_sha256(snapshot)}})


def read_detector(folder: Path) -> Any:
    run = DetectorRun(folder)
    return weights(run.load(STEP)), run.steps, Run(folder, {"seed": 0}).metrics()


def state(seed: int = 0) -> TrainingState:
    torch.manual_seed(seed)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return TrainingState(model, optimizer)


def checkpoint(folder: Path, run: str = "one") -> None:
    save_checkpoint(folder, STEP, state(), run)


def read_checkpoint(folder: Path) -> Any:
    loaded = state(seed=9)
    step = load_checkpoint(folder, loaded, "one")
    return step, weights(loaded.model), str(loaded.optimizer.state_dict()["state"])


def scores(folder: Path, seed: int = 0, shift: float = 0.0) -> None:
    Run(folder, {"seed": seed})
    table = make_table([0, 0, 1, 1], [0.1, 0.4 + shift, 0.6, 0.9])
    table.save(score_path(folder, STEP, "dev"), {"role": "dev", "step": STEP, "fold": folder.name, RUN: run_id(folder)})


def read_score_table(folder: Path) -> Any:
    table = read_scores(folder, STEP, "dev")
    return table.key.tolist(), table.label.tolist(), table.score.tolist(), table.metadata


def plan(folder: Path) -> None:
    record(folder, expand(Experiment(output=folder)))


def read_experiments(folder: Path) -> Any:
    return [(item.title, item.experiment.model_dump()) for item in read_plan(folder)]


KINDS: dict[str, tuple[Callable[[Path], None], Callable[[Path], Any]]] = {
    "generator": (generator, read_generator),
    "baseline": (baseline, lambda folder: weights(load_baseline(folder / MODEL))),
    "identity": (identity, lambda folder: weights(load_identity(folder))),
    "detector": (detector, read_detector),
    "checkpoint": (checkpoint, read_checkpoint),
    "scores": (scores, read_score_table),
    "plan": (plan, read_experiments),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("kinds")

    def make(kind: str) -> Path:
        if not (root / kind).exists():
            KINDS[kind][0](root / kind)
        return root / kind

    return make


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))


def answer_of(read: Callable[[Path], Any], folder: Path) -> str:
    try:
        return str(read(folder))
    except AgfasError as error:
        return str(error)


def check_flips(kind: str, folder: Path, flips: int) -> None:
    read, draws, noticed = KINDS[kind][1], random.Random(kind), 0
    expected, found = str(read(folder)), files(folder)
    for number in range(flips):
        path = found[number % len(found)]
        kept = path.read_bytes()
        data = bytearray(kept)
        data[draws.randrange(len(data))] ^= 1 << draws.randrange(8)
        path.write_bytes(data)
        answer = answer_of(read, folder)
        assert answer == expected or (str(folder) in answer and len(answer) < 1000), path
        noticed += answer != expected
        path.write_bytes(kept)
    assert noticed
    assert str(read(folder)) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_named_or_changes_nothing(made, kind):
    check_flips(kind, made(kind), 8)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_hundreds_of_flipped_bits_are_named_or_change_nothing(made, kind):
    check_flips(kind, made(kind), 150)


@pytest.mark.parametrize("kind", ["generator", "identity", "detector", "checkpoint", "scores", "plan"])
@pytest.mark.parametrize(
    "text", [b"", b"[]", b"0.5", b"[" * 10_000, b'{"step": "x", "snapshots": {}, "experiments": 3}']
)
def test_other_content_is_one_sentence(made, tmp_path, kind, text):
    folder = shutil.copytree(made(kind), tmp_path / made(kind).name)
    # Read by people alone; a line that was cut; and summaries of older versions had no checksums to compare.
    unused = ("config.json", "environment.json", "metrics.jsonl", "done.json" if kind == "identity" else "")
    for path in files(folder):
        if kind != "plan" and path.parent == folder and path.name in unused:
            continue
        kept = path.read_bytes()
        path.write_bytes(text)
        with pytest.raises(AgfasError, match=path.parent.name):
            KINDS[kind][1](folder)
        path.write_bytes(kept)


def test_weights_of_another_run_of_equal_shapes_are_noticed(tmp_path):
    detector(tmp_path / "a"), detector(tmp_path / "b", seed=1)
    ours, theirs = (snapshot_folder(tmp_path / name, STEP) for name in "ab")
    shutil.copy(theirs / "model.safetensors", ours)
    with pytest.raises(AgfasError, match="not what was saved together"):
        DetectorRun(tmp_path / "a").load(STEP)
    shutil.copy(theirs / "config.json", ours)
    with pytest.raises(AgfasError, match="something was exchanged"):
        DetectorRun(tmp_path / "a").load(STEP)
    shutil.copy(tmp_path / "b" / "done.json", tmp_path / "a")
    with pytest.raises(AgfasError, match="not of the run of this folder"):
        DetectorRun(tmp_path / "a").load(STEP)


def test_a_checkpoint_of_another_training_is_noticed(tmp_path):
    checkpoint(tmp_path, run="two")
    with pytest.raises(AgfasError, match="another training"):
        read_checkpoint(tmp_path)
    (tmp_path / "step_000003" / "model.safetensors").unlink()
    with pytest.raises(AgfasError, match="is missing"):
        read_checkpoint(tmp_path)


def test_scores_of_another_run_role_or_step_are_noticed(tmp_path):
    for seed, name in enumerate("ab"):
        scores(tmp_path / name / "fold", seed=seed)
    path = score_path(tmp_path / "a" / "fold", STEP, "dev")
    shutil.copy(score_path(tmp_path / "b" / "fold", STEP, "dev"), path)
    with pytest.raises(AgfasError, match="of another run"):
        read_scores(tmp_path / "a" / "fold", STEP, "dev")
    shutil.copy(path, path.with_name("step_000003-test.parquet"))
    with pytest.raises(AgfasError, match="of another role: dev"):
        read_scores(tmp_path / "a" / "fold", STEP, "test")


COLUMNS: dict[str, Callable[[pa.Table], pa.Table]] = {
    "lacks the columns score": lambda table: table.drop_columns(["score"]),
    "lacks the columns label": lambda table: table.rename_columns([*table.schema.names[:5], "labels", "score"]),
    "score more than once": lambda table: table.append_column("score", table["score"]),
    "holds string, not numbers": lambda table: table.set_column(6, "score", pa.array(["0.5"] * 4)),
    "holds int64, not text": lambda table: table.set_column(0, "key", pa.array([1, 2, 3, 4])),
    "holds double, not whole": lambda table: table.set_column(5, "label", pa.array([0.0, 0.0, 1.0, 1.0])),
    "has 1 empty values": lambda table: table.set_column(6, "score", pa.array([None, 0.4, 0.6, 0.9])),
    "not finite": lambda table: table.set_column(6, "score", pa.array([float("nan"), 0.4, 0.6, 0.9])),
    "its checksum differs": lambda table: table.set_column(6, "score", pa.array([0.2, 0.4, 0.6, 0.9])),
}  # fmt: skip


@pytest.mark.parametrize("words", COLUMNS)
def test_score_tables_with_other_columns_are_one_sentence(tmp_path, words):
    scores(tmp_path)
    path = score_path(tmp_path, STEP, "dev")
    pq.write_table(COLUMNS[words](pq.read_table(path)), path)
    with pytest.raises(AgfasError, match=words) as error:
        read_scores(tmp_path, STEP, "dev")
    assert str(path) in str(error.value)


def test_a_loaded_detector_does_not_need_its_files(tmp_path):
    detector(tmp_path)
    loaded = DetectorRun(tmp_path).load(STEP)
    before = weights(loaded)
    with (snapshot_folder(tmp_path, STEP) / "model.safetensors").open("r+b") as stream:
        stream.write(bytes(1 << 16))
        stream.truncate(0)
    assert weights(loaded) == before
    assert not any(tensor.untyped_storage().filename for tensor in loaded.state_dict().values())


def test_a_run_that_lies_under_another_name_is_noticed(tmp_path):
    identity(tmp_path / "0123456789abcdef")
    with pytest.raises(AgfasError, match="not of the run of this folder"):
        read_done(tmp_path / "0123456789abcdef")
