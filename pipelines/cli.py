"""`agfas COMMAND`: the list of commands, and how errors end them.

Only typer and the standard library are imported here and in `pipelines.commands`, so that `agfas --help` is quick.
"""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from pipelines.commands import experiments, pictures

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="AG-FAS: a de-fake face generator, its anomalous cues, and the detectors they guide.",
)

# In the order of use, which --help keeps.
COMMANDS = (
    pictures.synth,
    pictures.prepare,
    pictures.show,
    experiments.train_dfg,
    experiments.inspect_dfg,
    experiments.cues,
    experiments.export_cues,
    experiments.import_cues,
    experiments.train,
    experiments.evaluate,
    experiments.sweep,
    experiments.quickstart,
    experiments.reproduce,
    experiments.probe,
    experiments.report,
    pictures.detect,
    pictures.demo,
    experiments.threshold,
    pictures.save_model,
)
for command in COMMANDS:
    app.command(command.__name__.replace("_", "-"))(command)

# typer's return value for Ctrl-C.
_INTERRUPTED = 130


def main() -> None:
    """Entry point: an error is one sentence, exit code 1 or 2; Ctrl-C says how to resume."""
    from pipelines.errors import AgfasError
    from pipelines.memory import keep_freed_memory
    from pipelines.progress import quiet_libraries

    keep_freed_memory()
    quiet_libraries()
    try:
        code = app(standalone_mode=False)
    except AgfasError as error:
        _leave(f"agfas: {error}", 1)
    except OSError as error:
        _leave(f"agfas: {_os_message(error)}", 1)
    except Exception as error:
        if hasattr(error, "format_message"):  # click's usage errors
            _leave(f"agfas: {error.format_message()}", 2)
        raise
    if code == _INTERRUPTED:
        _leave("agfas: interrupted. Finished work is kept; run the same command again to resume.", code)
    sys.exit(code or 0)


def _os_message(error: OSError) -> str:
    from pipelines.files import explain_os_error

    return str(explain_os_error(error, Path(error.filename or ".")))


def _leave(message: str, code: int) -> None:
    print(message, file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
