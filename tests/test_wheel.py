"""The wheel, installed in an environment of its own and used from a folder whose `pipelines` is somebody else's.

The environment sees the dependencies of this one, so that nothing is fetched; the package itself is the wheel's alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ("agfas", "dfg", "oanet", "pipelines", "configs", "pyproject.toml", "setup.py", "README.md", "LICENSE")
# Every stage of the quickstart, at the least size that does something.
SMALL = (
    *("--minutes", "0.01", "data.size=32", "data.subjects=5", "data.corpus_subjects=8", "data.corpus_images=2"),
    *("data.live_videos=1", "data.attack_videos=1", "data.frames=1", "data.domains=[webcam, phone]", "cue.samples=1"),
    *("evaluate.replicates=100", "train.evaluations=1"),
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The folder `bin` of an environment with the wheel."""
    place = tmp_path_factory.mktemp("wheel")
    source = place / "source"
    source.mkdir()
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, source / name)
    call(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", place, source)
    call(sys.executable, "-m", "venv", "--without-pip", place / "venv")
    site = next((place / "venv" / "lib").glob("python*")) / "site-packages"
    # A folder on a path file brings its packages, and none of its own path files: not the clone's, for one.
    (site / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    wheel = next(place.glob("agfas-*.whl"))
    call(sys.executable, "-m", "pip", "--python", place / "venv" / "bin" / "python", "install", "--quiet", "--no-deps",
         "--force-reinstall", wheel)  # fmt: skip
    return place / "venv" / "bin"


@pytest.fixture
def elsewhere(tmp_path) -> Path:
    """A folder of another project: importing anything of its own fails."""
    for name in ("pipelines", "oanet", "dfg"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('this is another project')\n")
    return tmp_path


def call(*command: object, cwd: Path = ROOT) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run([str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout[-1000:], done.stderr[-3000:])
    return done.stdout


def test_the_package_is_the_wheel_s(installed, elsewhere):
    code = "import agfas, dfg, pipelines; print(pipelines.__file__, dfg.__file__, agfas.__file__)"
    found = call(installed / "python", "-P" if sys.version_info >= (3, 11) else "-I", "-c", code, cwd=elsewhere).split()
    assert all(Path(each).is_relative_to(installed.parent) for each in found), found
    files = {path.relative_to(installed.parent) for path in installed.parent.rglob("*.yaml")}
    assert len([path for path in files if "configs" in path.parts]) == len([*(ROOT / "configs").rglob("*.yaml")])


def test_commands_work_from_the_folder_of_another_project(installed, elsewhere):
    agfas = installed / "agfas"
    version = call(agfas, "--version", cwd=elsewhere)
    assert version.startswith("agfas ")
    assert call(installed / "python", "-m", "agfas", "--version", cwd=elsewhere) == version
    assert str(installed.parent) in call(agfas, "config", "--list", cwd=elsewhere)
    assert "nothing made yet" in call(agfas, "evaluate", "loo", "--dry-run", cwd=elsewhere)
    assert "agfas/IV" in call(agfas, "reproduce", "--list", cwd=elsewhere)
    assert "cue.timestep" in call(agfas, "config", "cue.timestep", cwd=elsewhere)


def test_the_quickstart_runs_there(installed, elsewhere):
    """With `--jobs 2`, whose processes start anew and must find the same package."""
    said = call(installed / "agfas", "quickstart", *SMALL, "--jobs", "2", cwd=elsewhere)
    assert (elsewhere / "runs" / "quickstart" / "report" / "index.html").is_file(), said
    model = elsewhere / "model"
    call(installed / "agfas", "save-model", "runs/quickstart", "--out", model, cwd=elsewhere)
    code = f"import agfas; print(agfas.FaceAntiSpoofing.from_pretrained({str(model)!r}).settings.detector)"
    (elsewhere / "mine").mkdir()
    assert call(installed / "python", "-c", code, cwd=elsewhere / "mine").strip() == "oanet"
