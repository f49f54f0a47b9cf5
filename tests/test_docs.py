"""README, docs, configurations and scripts: their links, paths, commands, options and keys exist.

Every page has its place in the site, and the README is short.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
import yaml

from oanet.described import described_options
from oanet.names import DETECTORS, OBJECTIVES
from pipelines.cli import app
from pipelines.experiment.keys import keys

ROOT = Path(__file__).parents[1]
# Pages that people write; in the other folders of docs/ are tables that commands wrote.
WRITTEN = [page for folder in ("", "tutorials", "reference") for page in sorted((ROOT / "docs" / folder).glob("*.md"))]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *WRITTEN]
# Pages that scripts/site makes of the root's files and of the tables.
MADE = {"index.md", "contributing.md", "changelog.md", "tables.md"}
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
        elif language not in ("python", "text"):  # such as a service that starts `agfas`
            yield from re.findall(r"\bagfas [a-z].*", block)
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


def known_keys() -> set[str]:
    """Every key of a configuration, and every option of a detector or objective."""
    options = {
        f"{block}.{option.name}"
        for block, registry in (("detector", DETECTORS), ("objective", OBJECTIVES))
        for one in registry.builtin
        for option in described_options(registry, one)
    }
    return {"detector.preset", *(key.name.replace("[]", "") for key in keys()), *options}


def named_keys(path: Path) -> Iterator[str]:
    """The keys that a page names: overrides of commands, and `block.key` with or without a value."""
    for line in command_lines(path):
        words = arguments_of(line)
        if words and words[0] in COMMANDS and any(part.name == "overrides" for part in COMMANDS[words[0]].params):
            of_others = tuple(f"{block}." for block in re.findall(r"(\w+)\.name=\w+:", line))
            given = [word.partition("=")[0] for word in words[1:] if re.match(r"[a-z_]+(\.[a-z_]+)*=\S*$", word)]
            yield from (key for key in given if not key.startswith(of_others))
        blocks = "cue|data|detector|evaluate|generator|identity|objective|protocol|sweep|train"
        if found := re.match(rf"((?:{blocks})(?:\.(?!py$|py )[a-z_]+)+)(?:=|:? |$)", line):
            yield found[1]


def test_keys_exist():
    known, free = known_keys(), re.compile(r"sweep\.|cue\.options\.")
    wrong = {
        f"{name(path)}: {key}"
        for path in PAGES + OTHERS
        for key in named_keys(path)
        if key not in known and not free.match(key)
    }
    assert wrong == set()


def test_every_page_is_in_the_site_once():
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    pages = [
        page for part in site["nav"] for under in part.values() for page in ([under], under)[isinstance(under, list)]
    ]
    placed = [page if isinstance(page, str) else next(iter(page.values())) for page in pages]
    written = (page.relative_to(ROOT / "docs").as_posix() for page in WRITTEN)
    assert sorted(placed) == sorted({*MADE, *written}), "give a new page its place under `nav` in mkdocs.yml"
    tables = {page.relative_to(ROOT / "docs").parts[0] for page in (ROOT / "docs").glob("*/**/*.md")}
    assert {line.strip("/") for line in site["not_in_nav"].split()} == tables - {"tutorials", "reference"}


def test_pictures_have_words():
    assert [name(path) for path in PAGES if re.search(r"!\[\s*\]\(|<img(?![^>]*alt=)", path.read_text("utf-8"))] == []


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
