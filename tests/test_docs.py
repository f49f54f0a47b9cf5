"""README, docs, configurations and scripts: their links, paths, commands and options exist, and the README is short."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from oanet.names import DETECTORS
from pipelines.cli import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
OTHERS = [*sorted((ROOT / "configs").rglob("*.yaml")), *sorted((ROOT / "scripts").glob("*.s*"))]
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
FENCE = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def command_lines(path: Path) -> Iterator[str]:
    """Shell commands of a page (blocks and `code`) or of the comments of another file, one line each."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".md":
        lines = [line.lstrip("#").strip() for line in text.splitlines() if line.startswith("#")]
        joined = "\n".join(lines).replace("\\\n", " ")
        yield from (line for line in joined.splitlines() if re.match(r"(agfas|bash|python|accelerate|sbatch) ", line))
        yield from re.findall(r"`(agfas [^`]+)`", " ".join(lines))
        return
    for language, block in FENCE.findall(text):
        if language == "bash":
            yield from block.replace("\\\n", " ").splitlines()
    yield from (" ".join(span.split()) for span in re.findall(r"`([^`]+)`", FENCE.sub("", text)))


def arguments_of(line: str) -> list[str]:
    """The words behind `agfas` or `-m pipelines.cli`; empty for anything else."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError:  # a lone apostrophe: no command
        return []
    for start in ("agfas", "pipelines.cli"):
        if start in words[:8]:
            return words[words.index(start) + 1 :]
    return []


@pytest.mark.parametrize("path", PAGES + OTHERS, ids=name)
def test_commands_and_their_options_exist(path):
    for line in command_lines(path):
        words = arguments_of(line)
        if not words or words[0].isupper() or words[0].startswith("-"):
            continue
        assert words[0] in COMMANDS, line
        options = {option for parameter in COMMANDS[words[0]].params for option in parameter.opts} | {"--help"}
        for word in words[1:]:
            if word.startswith("--"):
                assert word.split("=")[0] in options, line
            if re.fullmatch(r"configs/[\w/-]+\.yaml", word):
                assert (ROOT / word).is_file(), line


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        page = path.parent / file if file else path
        assert page.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings], target


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_named_files_exist(path):
    if path.name == "extending.md":
        return  # names files that the reader creates
    folders = "dfg|oanet|pipelines|configs|scripts|tests"
    named = re.findall(rf"(?<![\w/.-])((?:{folders})/[\w/.-]*\w/?)", path.read_text(encoding="utf-8"))
    assert [place for place in named if not (ROOT / place).exists()] == []


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_named_modules_exist(path):
    for module in re.findall(r"python -m ((?:pipelines|scripts|tests)[\w.]*)", path.read_text(encoding="utf-8")):
        file = ROOT / module.replace(".", "/")
        assert file.with_suffix(".py").is_file() or (file / "__main__.py").is_file(), module


def test_the_readme_is_short_and_names_both_commands():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.split()) <= 900
    assert "bash scripts/quickstart.sh" in text
    assert "bash scripts/test.sh" in text
    assert (ROOT / "docs" / "images" / "first-sight.png").stat().st_size < 400_000


def test_detectors_are_counted():
    counted = {"README.md": r"; (\d+) detectors are compared", "docs/layout.md": r"OA-Net and (\d+) others by name"}
    found = [re.findall(words, (ROOT / page).read_text(encoding="utf-8")) for page, words in counted.items()]
    assert found == [[str(len(DETECTORS.builtin))], [str(len(DETECTORS.builtin) - 1)]]
