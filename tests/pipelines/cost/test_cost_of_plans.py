"""What `--dry-run` says of whole plans: against an audit's figures, real models, and a card that is too small."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from small_experiments import chain_settings
from typer.testing import CliRunner

from oanet.detectors import build_detector
from oanet.names import DETECTORS
from oanet.objectives import build_objective
from pipelines.cli import app
from pipelines.cost import models
from pipelines.cost.estimate import face_seconds, step_seconds, training_memory
from pipelines.cost.machines import GIB, GPUS, machine_of
from pipelines.cost.parts import calls_of, left_of, parts_of_cues, parts_of_plan
from pipelines.errors import AgfasError
from pipelines.experiment.config import Experiment
from pipelines.experiment.file import build_experiment, read_experiment, with_overrides
from scripts.bench.cost import scale_table

PAPER = Path(__file__).parents[3] / "configs" / "dfg_paper.yaml"
A100, H100 = machine_of("a100-40"), machine_of("h100")


def part(experiment: Experiment, kind: str):
    return next(part for part in left_of(parts_of_plan(experiment)) if part.kind == kind)


@pytest.mark.parametrize(("faces", "people"), [(0, 2), (29, 2), (35, 3)])
def test_a_tenth_of_the_faces_are_taken_for_persons(tmp_path, faces, people):
    identity = part(build_experiment(chain_settings(tmp_path), "a test"), "identity")
    objective, _ = models.objective_of(replace(identity, faces=faces))
    assert objective.centers.shape[0] == people


def test_a_small_autoencoder_is_counted_where_the_cue_takes_it(tmp_path):
    plain = build_experiment(chain_settings(tmp_path), "a test")
    small = with_overrides(plain, {"cue.autoencoder": "trained", "tiny_autoencoder.width": 8})
    assert "tiny_autoencoder" not in {one.kind for one in left_of(parts_of_plan(plain))}
    training = part(small, "tiny_autoencoder")
    assert (training.amount, training.unit, training.done, training.total) == (10_000, "steps", 0, 1)
    need = models.training(training, A100)
    wider = part(with_overrides(small, {"tiny_autoencoder.width": 16}), "tiny_autoencoder")
    assert need.trained < models.training(wider, A100).trained
    assert models.price(training, A100).lines
    restored = [models.restoring(part(one, "restoration")) for one in (plain, small)]
    assert (restored[0].decode.flops, restored[1].decode.flops > 0) == (0, True)


@pytest.fixture(scope="module")
def paper():
    """The paper's generator: one step on an A100."""
    return models.training(part(read_experiment(PAPER), "generator"), A100)


@pytest.mark.slow
def test_the_papers_generator_is_stable_diffusions(paper):
    assert paper.parameters == paper.trained == 859_520_964


@pytest.mark.slow
@pytest.mark.parametrize(("checkpointed", "gibibytes"), [(True, 20.2), (False, 24.8)])
def test_memory_is_that_of_the_audit(paper, checkpointed, gibibytes):
    step = paper.step if checkpointed else paper.other
    assert sum(training_memory(paper, A100, step).values()) / GIB == pytest.approx(gibibytes, rel=0.25)


@pytest.mark.slow
@pytest.mark.parametrize(("machine", "hours"), [(A100, 7.5), (H100, 4.0)], ids=["A100", "H100"])
def test_hours_of_training_are_within_a_factor_of_two_of_the_audits(paper, machine, hours):
    found = 150_000 * step_seconds(paper, machine) / 3600
    assert hours / 2 < found < hours * 2


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "hours"), [("float32", 16.0), ("bfloat16", 4.7)])
def test_hours_of_cues_are_within_a_factor_of_two_of_the_audits(dtype, hours):
    experiment = with_overrides(read_experiment(PAPER), {"cue.dtype": dtype})
    restoration = part(experiment, "restoration")
    need = models.restoring(restoration)
    # U-Net, autoencoder and the trunk of the iResNet-18.
    assert need.parameters == 859_520_964 + 83_653_863 + 11_179_008
    # 178.7 GFLOP a call, 273 to encode and 622 to decode, as the sheet of costs has them.
    assert need.call.flops / need.faces / 1e9 == pytest.approx(178.7, rel=0.01)
    assert need.once.flops / need.faces / 1e9 == pytest.approx(273 + 5, rel=0.01)
    assert need.decode.flops / need.faces / 1e9 == pytest.approx(622, rel=0.01)
    # As torch computes by itself: convolutions in TF32, matrices in float32.
    half_tf32 = replace(A100, rates={**A100.rates, "conv float32": A100.rates["conv tf32"]})
    found = 200_000 * face_seconds(need, half_tf32, [calls_of(experiment, 801)], plain=True) / 3600
    assert hours / 2 < found < hours * 2


@pytest.mark.slow
def test_a_named_gpu_is_asked_in_its_profile(tmp_path):
    (tmp_path / "a.yaml").write_text(yaml.safe_dump({**chain_settings(tmp_path / "out"), "cue": {"timestep": 41}}))

    def printed(*words: str) -> str:
        command = ["cues", str(tmp_path / "a.yaml"), "--dry-run", "--gpu", "h100", *words]
        return CliRunner().invoke(app, command).output

    assert "parameters in bfloat16" in printed()
    assert "parameters in float32" in printed("profile=exact")
    tf32 = H100.in_tf32(True)
    assert tf32.rate("matmul", "float32") == H100.rate("matmul", "tf32") > H100.rate("matmul", "float32")


QUICK = ("oanet", "ssdg_r", "memae")


def slow_but_some(names):
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", slow_but_some(sorted(DETECTORS.builtin)))
def test_parameters_of_a_tiny_detector_are_those_of_the_real_one(name, tmp_path):
    settings = {**chain_settings(tmp_path), "detector": {"name": name, "preset": "tiny"}, "objective": {"name": "erm"}}
    settings["cue"] = {**settings["cue"], "form": "residual"}
    real = build_detector(name, preset="tiny")
    if real.inference_only or real.map_names or name == "flip_mcl":
        pytest.skip("not trained, or not by this objective")
    need = models.training(part(build_experiment(settings, "a test"), "detector"), A100)
    assert need.parameters == real.num_parameters()


def test_a_detector_of_words_is_counted_with_its_losses(tmp_path):
    options = {"hidden": 32, "projection_dim": 16}
    settings = {
        **chain_settings(tmp_path),
        "detector": {"name": "gd_fas", "preset": "tiny"},
        "objective": {"name": "gd_fas", **options},
    }
    need = models.training(part(build_experiment(settings, "a test"), "detector"), A100)
    real = build_objective("gd_fas", build_detector("gd_fas", preset="tiny"), 2, **options)
    assert need.parameters == sum(p.numel() for p in real.parameters())
    assert not need.alone


@pytest.mark.parametrize("name", slow_but_some(["memae", "deep_svdd", "anoddpm", "one_call"]))
def test_baselines_are_counted_too(name, tmp_path):
    settings = {**chain_settings(tmp_path), "generator": {"name": name}, "cue": {"source": name, "timestep": 20}}
    settings["data"] = {**settings["data"], "size": 64}
    parts = left_of(parts_of_plan(build_experiment(settings, "a test")))
    priced = {part.kind: models.price(part, A100) for part in parts}
    of_teacher = {"identity"} if name == "one_call" else set()
    assert set(priced) == {"generator", "restoration", "detector", *of_teacher}
    assert all(each.seconds > 0 for each in priced.values())


def test_more_gpus_than_faces_are_refused(tmp_path):
    experiment = build_experiment(chain_settings(tmp_path), "a test")
    with pytest.raises(AgfasError, match="A step of the detector has 4 faces, which 64 GPUs cannot share"):
        models.training(part(experiment, "detector"), machine_of("h100", 64))


@pytest.mark.slow
def test_a_card_that_is_too_small_says_what_to_change(monkeypatch, tmp_path):
    monkeypatch.setitem(GPUS, "rtx4090", replace(GPUS["rtx4090"], memory=0.001))
    experiment, lines = build_experiment(chain_settings(tmp_path), "a test"), list[str]()
    models.print_costs([part(experiment, "generator")], "rtx4090", None, lines.append)
    text = "\n".join(lines)
    assert "DOES NOT FIT: RTX 4090 has 0.00093 GiB for tensors: try generator.gradient_checkpointing=true; or" in text
    assert "generator.loop.mixed_precision=bf16; or generator.loop.gradient_accumulation=2" in text


@pytest.mark.slow
def test_the_command_prints_plan_parts_and_total(tmp_path):
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(chain_settings(tmp_path / "out")))
    done = CliRunner().invoke(app, ["train", str(tmp_path / "a.yaml"), "--dry-run", "--gpu", "h100", "--gpus", "2"])
    assert done.exit_code == 0, done.output
    for words in (
        "nothing made yet",
        "identity trained: 1 of 1",
        "restoration dfg",
        "detector oanet: 2 of 2",
        "total ",
    ):
        assert words in done.output
    assert "buckets" in done.output
    assert not (tmp_path / "out").exists()
    refused = CliRunner().invoke(app, ["train", str(tmp_path / "a.yaml"), "--gpu", "h100"])
    assert isinstance(refused.exception, AgfasError)
    assert "add --dry-run" in str(refused.exception)


def test_a_source_of_others_has_no_known_cost(tmp_path, monkeypatch):
    (tmp_path / "blurs_of_mine.py").write_text("class Blur:\n    def __init__(self) -> None: ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    experiment = build_experiment({**chain_settings(tmp_path), "cue": {"source": "blurs_of_mine:Blur"}}, "a test")
    lines: list[str] = []
    models.print_costs(parts_of_cues(experiment, [801], all_faces=True), "h100", None, lines.append)
    assert "its cost is unknown" in lines[1]


@pytest.mark.slow
def test_the_pages_table_is_that_of_the_command():
    page = (PAPER.parents[1] / "docs" / "scale.md").read_text(encoding="utf-8")
    for row in scale_table():
        values = [str(value) for name, value in row.items() if name != "benchmark"]
        assert f"| {' | '.join(values)} |" in page
