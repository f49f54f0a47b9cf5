"""`agfas COMMAND`: thin; the commands are in `pipelines.commands`.

Only typer and the standard library are imported here and there, so that `agfas --help` answers at once.
"""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from pipelines.commands import cues, experiments, faces, verdicts

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="AG-FAS: a de-fake face generator, its anomalous cues, and the detectors they guide.",
)

# In the order in which they are used, which is that of --help.
COMMANDS = (
    faces.synth,
    faces.prepare,
    faces.show,
    cues.train_dfg,
    cues.inspect_dfg,
    cues.cues,
    cues.export_cues,
    cues.import_cues,
    experiments.train,
    experiments.evaluate,
    experiments.sweep,
    experiments.quickstart,
    experiments.reproduce,
    cues.probe,
    experiments.report,
    verdicts.detect,
    verdicts.demo,
    verdicts.threshold,
    verdicts.save_model,
)
for command in COMMANDS:
    app.command(command.__name__.replace("_", "-"))(command)

# What typer returns for Ctrl-C.
_INTERRUPTED = 130


def main() -> None:
    """Entry point: a mistake is answered with one sentence, Ctrl-C with how to go on."""
    from pipelines.errors import AgfasError
    from pipelines.memory import keep_freed_memory

    keep_freed_memory()
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
        _leave("agfas: interrupted. What was finished is kept; run the same command again to go on.", code)
    sys.exit(code or 0)


def _os_message(error: OSError) -> str:
    from pipelines.files import explain_os_error

    return str(explain_os_error(error, Path(error.filename or ".")))


def _leave(message: str, code: int) -> None:
    print(message, file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
