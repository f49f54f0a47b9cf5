"""The configurations of the project are found by name from any folder, after the user's own files."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.errors import AgfasError
from pipelines.experiment.file import read_experiment
from pipelines.experiment.shipped import find_config, find_folder, listing, shipped, shipped_experiments
from pipelines.reproduce.request import listing as tables
from pipelines.reproduce.settings import FOLDER, table_names
from pipelines.stages.prepare import read_recipe

CONFIGS = Path(__file__).parents[3] / "configs"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("given", ["loo", "loo.yaml", "configs/loo.yaml", "configs/loo"])
def test_a_shipped_file_is_found_by_name(given):
    assert find_config(Path(given)) == CONFIGS / "loo.yaml"
    assert read_experiment(Path(given), ["output=out"]).name == "loo"


def test_all_are_found_and_listed():
    files = sorted(path.relative_to(CONFIGS).with_suffix("").as_posix() for path in CONFIGS.rglob("*.yaml"))
    assert sorted(shipped()) == files
    assert [line.split()[0] for line in listing()[:-1]] == list(shipped())
    assert all(len(line.split()) > 2 for line in listing()[:-1])
    assert {"loo", "detectors/vit", "protocols/within"} <= {*shipped_experiments()} <= {*files}
    assert not {"prepare", "accelerate/cpu", "paper/agfas-IV"} & {*shipped_experiments()}


def test_a_file_of_the_users_goes_first(elsewhere):
    (elsewhere / "configs").mkdir()
    for name in ("loo", "configs/loo.yaml"):
        (elsewhere / name).write_text("name: mine\n")
        assert read_experiment(Path(name)).name == "mine"


def test_a_folder_of_that_name_is_no_file(elsewhere):
    (elsewhere / "loo").mkdir()
    assert find_config(Path("loo")) == CONFIGS / "loo.yaml"


def test_a_misspelt_name_is_answered_with_the_nearest():
    with pytest.raises(AgfasError, match="did you mean 'loo'.*agfas config --list".replace("did", "Did")):
        find_config(Path("lo"))


def test_tables_and_the_recipe_are_found_too(elsewhere):
    assert "agfas/IV" in table_names()
    assert len(tables()) == len(table_names())
    assert read_recipe(Path("prepare"), {}, []).importer == "folder"
    (elsewhere / "configs" / "paper").mkdir(parents=True)  # of another project
    assert find_folder(FOLDER, "*-*.yaml") == CONFIGS / "paper"
    (elsewhere / "mine-I.yaml").touch()
    assert find_folder(elsewhere, "*-*.yaml") == elsewhere
    assert find_folder(Path("nowhere"), "*-*.yaml") == Path("nowhere")
