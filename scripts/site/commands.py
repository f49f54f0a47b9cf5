"""The page of commands, from what `--help` prints."""

from __future__ import annotations

import re
from typing import Any

import typer

from pipelines.cli import app
from scripts.site.table import table

_OF_ALL = ("verbose", "quiet", "help", "device")


def commands_page() -> str:
    """Every command in the order of use: what it does, examples, arguments and options."""
    program: Any = typer.main.get_command(app)
    return "\n\n".join(_command(name, command) for name, command in program.commands.items())


def _command(name: str, command: Any) -> str:
    context = typer.Context(command, info_name=f"agfas {name}")
    text, _, examples = (command.help or "").partition("\b\n")
    shown = "\n".join(line.strip() for line in examples.splitlines()[1:] if line.strip())
    records = [_record(context, parameter) for parameter in command.params if parameter.name not in _OF_ALL]
    usage = re.sub(r"^Usage: |\s+", " ", command.get_usage(context)).strip()
    parts = [
        f"## agfas {name}",
        text.strip(),
        f"```bash\n{shown}\n```" if shown else "",
        f"`{usage}`",
        table(("argument or option", "meaning"), [record for record in records if record]) if any(records) else "",
        *(f"**{title}**: {names}" for title, names in command._names()),
    ]
    return "\n\n".join(part for part in parts if part)


def _record(context: typer.Context, parameter: Any) -> tuple[str, str] | None:
    """The names and the help of a parameter, as `--help` has them."""
    record = parameter.get_help_record(context)
    return record and (f"`{record[0]}`", record[1])
