"""`agfas COMMAND`: the list of commands, and how errors end them.

Nothing heavier than typer is imported here and in `pipelines.commands`, so that `agfas --help` is quick.
"""

from __future__ import annotations

import sys
from io import TextIOWrapper
from pathlib import Path

import typer

from pipelines.commands import experiments, pictures
from pipelines.processes import on_main

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
    pictures.export,
)
# What launched processes do together. The rest is work for one: the main process does it, and the others end.
TOGETHER = {
    *(pictures.synth, experiments.train_dfg, experiments.inspect_dfg, experiments.cues, experiments.train),
    *(experiments.evaluate, experiments.sweep, experiments.quickstart, experiments.reproduce, experiments.probe),
}
for command in COMMANDS:
    app.command(command.__name__.replace("_", "-"))(command if command in TOGETHER else on_main(command))


def main() -> None:
    """Entry point: an error is one sentence, exit code 1 or 2; a signal says how to resume."""
    from pipelines.ending import INTERRUPTED, exit_code, leave, leave_after_another, watch_signals
    from pipelines.errors import AgfasError, OtherProcessFailed
    from pipelines.memory import keep_freed_memory, memory_message
    from pipelines.processes import is_launched, state
    from pipelines.progress import quiet_libraries

    for stream in (sys.stdout, sys.stderr):  # names of files may hold bytes that are no text
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    keep_freed_memory()
    quiet_libraries()
    watch_signals()
    try:
        if is_launched():
            state()  # now that all are here, so that none waits for one that ends early
        code = app(standalone_mode=False)  # typer returns 130 for a KeyboardInterrupt
    except KeyboardInterrupt:
        code = INTERRUPTED
    except OtherProcessFailed:
        leave_after_another(wait=True)
        sys.exit(1)
    except AgfasError as error:
        leave(f"agfas: {error}", 1)
    except OSError as error:
        leave(f"agfas: {_os_message(error)}", 1)
    except Exception as error:
        if hasattr(error, "format_message"):  # click's usage errors
            leave(f"agfas: {error.format_message()}", 2)
        from pipelines.files import as_os_error

        if (found := as_os_error(error)) is not None:
            leave(f"agfas: {_os_message(found)}", 1)
        if (short := memory_message(error)) is not None:
            leave(f"agfas: {short}", 1)
        leave_after_another()
        raise
    if code == INTERRUPTED:
        how = "interrupted" if exit_code() == INTERRUPTED else "stopped by a signal"
        leave(f"agfas: {how}. Finished work is kept; run the same command again to resume.", exit_code())
    sys.exit(code or 0)


def _os_message(error: OSError) -> str:
    from pipelines.files import explain_os_error, file_of

    return str(explain_os_error(error, file_of(error) or Path()))


if __name__ == "__main__":
    main()
