"""The commands of docs/cues-at-scale.md, word for word, on a dataset of one domain and with small weights."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from authors_weights import write_authors_weights, write_autoencoder
from prepare_stubs import SquareDetector, save, scene
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.data.prepare.settings import PrepareRecipe
from pipelines.data.records import load_faces
from pipelines.stages import prepare

ROOT = Path(__file__).parents[3]
# Added to the page's commands, so that a CPU needs seconds.
SMALL = ["data.size=32", "cue.num_inference_steps=5", "cue.batch_size=2"]


def commands() -> list[list[str]]:
    """The page's first commands, split into words, without comments."""
    page = (ROOT / "docs" / "cues-at-scale.md").read_text(encoding="utf-8")
    block = page.split("```bash\n")[1].split("```")[0].replace("\\\n", " ")
    return [shlex.split(line, comments=True) for line in block.splitlines()]


def run(*words: str) -> str:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 0, result.exception
    return result.stdout


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A folder like the repository's, with pictures and with the weights that the page asks for."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    write_authors_weights(tmp_path / "weights")
    write_autoencoder(tmp_path / "stable-diffusion-v1-5" / "stable-diffusion-v1-5")
    for number in range(3):
        save(tmp_path / "photos" / "any" / f"{number}.png", scene((40, 20, 70), seed=number))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_the_commands_work_as_they_are_printed(here):
    prepared, cues, exported = commands()
    assert prepared[:5] == ["agfas", "prepare", "photos/", "--out", "data/faces/"]
    assert prepared[5:7] == ["--importer", "live"]
    recipe = PrepareRecipe(importer="live", size=32, workers=1)
    assert prepare.run(Path("photos"), Path("data/faces"), recipe, SquareDetector) == 0
    assert load_faces(Path("data/faces")).unique("domain") == ["photos"]

    assert (here / cues[cues.index("--config_file") + 1]).is_file()
    words = cues[cues.index("agfas") + 1 :]
    printed = dict(line.split(": ") for line in run(*words, *SMALL).splitlines() if line.startswith("t = "))
    assert list(printed) == ["t = 0", "t = 201", "t = 401", "t = 801"]
    assert run(*words, *SMALL, "--status").count("3 of 3") == 4

    store = Path(printed["t = 801"].strip())
    assert exported[2] == f"{store.parent.as_posix()}/STORE"
    assert "3 cues" in run(*exported[1:2], str(store), exported[3])
