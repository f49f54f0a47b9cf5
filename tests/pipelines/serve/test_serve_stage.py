"""What is checked before a server listens: keys, addresses, numbers, packages; and that its front is light."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields

import pytest
import typer

from pipelines.cli import app
from pipelines.errors import AgfasError
from pipelines.serve import server
from pipelines.serve.settings import Limits, Serving, cores, option
from pipelines.stages import serve as stage

KEY = "0123456789abcdef"


@pytest.fixture
def served(monkeypatch, tmp_path) -> list[tuple]:
    """What would have been served; ends as by Ctrl-C."""
    calls: list[tuple] = []

    def serve(*given):
        calls.append(given)
        raise KeyboardInterrupt

    monkeypatch.setattr(server, "serve", serve)
    (tmp_path / "anti_spoofing.json").touch()
    monkeypatch.delenv("AGFAS_API_KEY", raising=False)
    monkeypatch.setattr(stage, "check_address", lambda host, port: host != "0.0.0.0")
    return calls


def test_a_server_listens_and_ends_in_words(served, tmp_path):
    said: list[str] = []
    stage.run(Serving(str(tmp_path)), Limits(), "::1", 8000, names=["api.example.org"], say=said.append)
    assert said == [f"Loading {tmp_path} for http://[::1]:8000 ...", "Stopped; nothing was stored."]
    ((_, limits, host, port, keys, names, say_ready),) = served
    assert (limits, host, port, keys) == (Limits(), "::1", 8000, [])
    assert {"::1", "api.example.org"} < names
    say_ready(None)
    assert said[-1].startswith("Ready: http://[::1]:8000/v1/verdict, described at http://[::1]:8000/docs")


def test_strangers_need_a_key(served, tmp_path, monkeypatch):
    serving = Serving(str(tmp_path))
    with pytest.raises(AgfasError, match=r"Everyone who reaches 0.0.0.0 could use the server. Name a file with keys"):
        stage.run(serving, Limits(), "0.0.0.0", 8000)
    stage.run(serving, Limits(), "0.0.0.0", 8000, no_key=True)
    monkeypatch.setenv("AGFAS_API_KEY", KEY)
    stage.run(serving, Limits(), "0.0.0.0", 8000)
    assert [call[4] for call in served] == [[], [KEY]]


def test_the_model_is_a_folder_and_the_packages_are_named(served, tmp_path, monkeypatch):
    with pytest.raises(AgfasError, match=r"No folder at .*absent. Give one that `agfas save-model`"):
        stage.run(Serving(str(tmp_path / "absent")), Limits(), "localhost", 8000)
    monkeypatch.setitem(sys.modules, "pipelines.serve.server", None)
    with pytest.raises(AgfasError, match=r'Run: pip install "agfas\[serve\]"'):
        stage.run(Serving(str(tmp_path)), Limits(), "localhost", 8000)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "must hold a key a line"), (b"short\n", "at least 16"), (b"0123456789 abcdef", "without spaces"),
     ("ü".encode() * 20, "other letters than ASCII"), (None, "cannot be read")],
)  # fmt: skip
def test_keys_are_long_and_plain(content, words, tmp_path):
    if content is not None:
        (tmp_path / "keys").write_bytes(content)
    with pytest.raises(AgfasError, match=words):
        server.keys_of(tmp_path / "keys")


def test_keys_of_a_file_come_before_that_of_the_environment(tmp_path, monkeypatch):
    (tmp_path / "keys").write_text(f"{KEY}\n\n {KEY}x \n")
    monkeypatch.setenv("AGFAS_API_KEY", f"{KEY}y")
    assert server.keys_of(tmp_path / "keys") == [KEY, f"{KEY}x"]
    assert server.keys_of(None) == [f"{KEY}y"]
    monkeypatch.setenv("AGFAS_API_KEY", "short")
    with pytest.raises(AgfasError, match="The environment variable AGFAS_API_KEY must hold"):
        server.keys_of(None)


def test_numbers_are_checked_and_every_limit_is_an_option():
    with pytest.raises(AgfasError, match=r"--max-file-mb must be above 0, not 0."):
        Limits(file_mb=0)
    for wrong in ({"workers": -1}, {"max_batch": 0}, {"max_wait_ms": -1.0}, {"max_wait_ms": float("nan")}):
        with pytest.raises(AgfasError, match="--workers must be"):
            Serving("model", **wrong)
    command = typer.main.get_command(app).commands["serve"]
    given = {name: parameter.default for parameter in command.params for name in parameter.opts}
    assert {option(field.name): field.default for field in fields(Limits)}.items() <= given.items()
    assert (given["--max-batch"], given["--max-wait-ms"]) == (Serving("").max_batch, Serving("").max_wait_ms)


def test_workers_have_a_core_or_a_gpu_each(monkeypatch):
    monkeypatch.setattr("pipelines.serve.settings.gpu_count", lambda: 0)
    assert Serving("").environments() == [{"OMP_NUM_THREADS": "1"}] * cores()
    assert len(Serving("", 3).environments()) == 3
    monkeypatch.setattr("pipelines.serve.settings.gpu_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert Serving("", 3).environments() == [{"CUDA_VISIBLE_DEVICES": name} for name in "010"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert Serving("").environments() == [{"CUDA_VISIBLE_DEVICES": name} for name in "47"]
    monkeypatch.setattr("pipelines.serve.settings.cpu_is_forced", lambda: True)
    assert Serving("", 1).environments() == [{"OMP_NUM_THREADS": "1"}]


def test_the_front_loads_no_torch():
    code = "import sys, pipelines.serve.server, pipelines.stages.serve; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_model_of_the_hub_is_fetched_once_for_all_workers(monkeypatch, tmp_path):
    seen = []
    (tmp_path / "settings.json").touch()
    monkeypatch.setattr(stage, "local_model", lambda given: tmp_path if given == "me/pad" else None)
    monkeypatch.setattr("pipelines.serve.server.serve", lambda serving, *rest: seen.append(serving))
    stage.run(Serving("me/pad", 3), Limits(), "localhost", 8000, say=lambda line: None)
    assert seen == [Serving(str(tmp_path), 3)]
