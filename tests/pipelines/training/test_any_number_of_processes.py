"""Losses and weights do not depend on the number of processes: those of several equal those of one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from launching import start, torchrun
from safetensors.torch import load_file
from trainings import GENERATORS, accepted_pairs, train_all

TRAININGS = Path(__file__).parent / "trainings.py"


def trained(folder: Path, processes: int, dtype: str, steps: int, *cases: str) -> Path:
    target = folder / f"{dtype}-{processes}"
    target.mkdir(exist_ok=True)
    if processes == 1:
        train_all(target, dtype, steps, cases)
        return target
    ranks = start(processes, TRAININGS, target, dtype, steps, *cases)
    errors = [rank.communicate()[1] for rank in ranks]
    assert not any(rank.returncode for rank in ranks), errors[0][-3000:]
    return target


def losses(folder: Path, name: str) -> list[float]:
    return json.loads((folder / f"{name}.json").read_text())


def assert_equal_weights(one: Path, other: Path, name: str, rtol: float, atol: float) -> None:
    """Relative to each tensor's norm; `atol` for tensors that are zero but for rounding."""
    expected, found = (load_file(folder / f"{name}.safetensors") for folder in (one, other))
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        difference = (value.double() - found[key].double()).norm().item()
        assert difference <= rtol * value.double().norm().item() + atol, (name, key, difference)


def names(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.json"))


# Batch normalisation, dropout, pairs, triplets, styles of other faces, and unequal shares (7 faces).
QUICK = ("attacknet_v1/sa_fas", "ssan_r/ssan")


def test_two_processes_train_as_one(tmp_path):
    one, two = (trained(tmp_path, count, "float64", 2, *QUICK) for count in (1, 2))
    assert len(names(one)) == len(QUICK)
    for name in names(one):
        assert losses(two, name) == pytest.approx(losses(one, name), rel=1e-10)
        assert_equal_weights(one, two, name, rtol=1e-8, atol=1e-12)


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """The folder of `trained` of every accepted pair and generator, by number of processes and precision."""
    folder, cases = tmp_path_factory.mktemp("trained"), [*accepted_pairs(), *GENERATORS]
    made: dict[tuple[str, int], Path] = {}

    def find(dtype: str, processes: int, steps: int) -> Path:
        if (dtype, processes) not in made:
            made[dtype, processes] = trained(folder, processes, dtype, steps, *cases)
        return made[dtype, processes]

    return find


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 3, 4])
def test_everything_trains_alike_in_float64(everything, processes):
    one, several = everything("float64", 1, 20), everything("float64", processes, 20)
    for name in names(one):
        assert losses(several, name) == pytest.approx(losses(one, name), rel=1e-8)
        assert_equal_weights(one, several, name, rtol=1e-8, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 3, 4])
def test_everything_begins_alike_in_float32(everything, processes):
    """As far as processors round alike: where ReLUs leave channels that are nearly constant, float32 knows little of
    their variance. The losses of float64 above are equal."""
    one, several = everything("float32", 1, 3), everything("float32", processes, 3)
    for name in names(one):
        expected, found = losses(one, name), losses(several, name)
        assert found[0] == pytest.approx(expected[0], rel=1e-3), name
        assert found[2] == pytest.approx(expected[2], rel=1e-2), name


SMALL_BATCH = """
import torch
from pipelines.errors import AgfasError
from pipelines.training.loop import fit
from pipelines.training.run import Run
from pipelines.training.settings import LoopSettings
from trainings import Drawn, build
import sys
from pathlib import Path

class Three(Drawn):
    size = 3

try:
    fit(build("memae"), Three("memae", torch.float32), LoopSettings(steps=2), Run(Path(sys.argv[1]), {}), title="small")
except AgfasError as error:
    raise SystemExit(f"refused: {error}")
"""


@pytest.mark.slow
def test_more_processes_than_faces_are_refused_at_once(tmp_path):
    script = tmp_path / "small.py"
    script.write_text(SMALL_BATCH)
    result = torchrun(4, script, tmp_path / "run", PYTHONPATH=TRAININGS.parent)
    assert result.returncode != 0
    assert "at least 4 faces per step, or at most 3 processes" in result.stderr
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
