"""The command line explains itself: examples, names, one spelling for each option, and how much a command says."""

from __future__ import annotations

import re
import shlex
import sys

import pytest
import typer

from pipelines import __version__, cli, progress
from pipelines.commands.shared import complete_config, complete_key
from pipelines.data.importers import IMPORTERS
from pipelines.experiment.shipped import shipped, shipped_experiments

COMMANDS = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]


def help_of(name: str) -> str:
    command = COMMANDS[name]
    return command.get_help(command.make_context(name, [], resilient_parsing=True))


def options(name: str) -> dict[str, str]:
    """Spelling to the name of the parameter."""
    return {word: each.name for each in COMMANDS[name].params for word in each.opts if word.startswith("-")}


@pytest.fixture
def agfas(monkeypatch, capsys):
    """Run a command in this process: its exit code, stdout and stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["agfas", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return int(stop.value.code or 0), *capsys.readouterr()

    return run


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_shows_examples_that_it_takes(name):
    text = help_of(name)
    examples = [shlex.split(line) for line in re.findall(r"^ +(agfas .*)$", text, re.MULTILINE)]
    assert examples
    for _, command, *words in examples:
        assert command == name
        assert {word for word in words if word.startswith("-")} <= {*options(name)}
        first = words[0] if words else ""
        if any(each.name == "config" for each in COMMANDS[name].params) and re.fullmatch(r"\w+(/\w+)?", first):
            assert first in shipped()
    assert {"-v", "--verbose", "-q", "--quiet"} <= {*options(name)}


def test_help_names_what_a_command_takes():
    assert set(IMPORTERS) <= set(re.findall(r"\w+", help_of("prepare")))
    for name in ("train", "evaluate", "sweep", "train-dfg"):
        names = help_of(name).partition("Shipped configurations")[2]
        assert {each.rpartition("/")[2] for each in shipped_experiments()} <= set(re.findall(r"\w+", names))
    assert "cuda:1" in help_of("detect")
    assert "--device" not in options("show")


def test_an_option_has_one_spelling_and_a_spelling_one_meaning():
    spellings: dict[str, set[tuple[str, ...]]] = {}
    names: dict[str, set[str]] = {}
    for command in COMMANDS.values():
        for each in command.params:
            if (words := tuple(each.opts))[0].startswith("-"):
                spellings.setdefault(each.name, set()).add(words)
                for word in words:
                    names.setdefault(word, set()).add(each.name)
    assert {name: found for name, found in spellings.items() if len(found) > 1} == {}
    assert {word: found for word, found in names.items() if len(found) > 1} == {}


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_help_in_short_and_long(agfas, word):
    assert "detect" in agfas(word)[1]
    assert "Examples:" in agfas("show", word)[1]


def test_the_version_is_said(agfas):
    assert agfas("--version") == (0, f"agfas {__version__}\n", "")


@pytest.fixture
def silent(monkeypatch):
    """What a test says about verbosity is forgotten after it."""
    monkeypatch.setattr(progress, "_hidden", False)
    for name in ("AGFAS", "HF_HUB", "TRANSFORMERS", "DIFFUSERS", "DATASETS"):
        monkeypatch.setenv(f"{name}_VERBOSITY", "")
        monkeypatch.delenv(f"{name}_VERBOSITY")


def test_verbose_shows_where_an_error_came_from(agfas, silent, tmp_path):
    for word in ("-v", "--verbose"):
        code, _, said = agfas("show", str(tmp_path), word)
        assert code == 1
        assert "Traceback" in said
        assert said.strip().splitlines()[-1].startswith("agfas: ")


def test_quiet_hides_progress_here_and_in_children(agfas, silent, tmp_path):
    assert "Traceback" not in agfas("show", str(tmp_path), "-q")[2]
    progress.bar(3, "nothing").__exit__()
    assert progress.os.environ["AGFAS_VERBOSITY"] == "quiet"
    assert agfas("show", str(tmp_path), "-q", "-v")[2] == (
        "agfas: --verbose and --quiet contradict each other: give one of them.\n"
    )


def test_a_shell_completes_names_and_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "detour.yaml").touch()
    (tmp_path / "details.txt").touch()
    (tmp_path / "deter").mkdir()
    assert complete_config("detectors/cd") == ["detectors/cdcn", "detectors/cdcn_pp"]
    assert complete_config("dete") == [*(name for name in shipped_experiments() if "detectors/" in name), "deter/"]
    assert complete_config("deto") == ["detour.yaml"]
    assert complete_key("cue.num") == ["cue.num_inference_steps"]
