"""`agfas COMMAND`: the list of commands, and how errors end them.

Nothing heavier than typer is imported here and in `pipelines.commands`, so that `agfas --help` is quick.
"""

from __future__ import annotations

import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

import typer

from pipelines import __version__
from pipelines.commands import configuration, experiments, pictures, sharing, students, verdicts
from pipelines.commands.shared import Command, with_shared
from pipelines.processes import on_main

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"agfas {__version__}")
        raise typer.Exit


@app.callback(epilog="agfas COMMAND --help: its options and examples. agfas config: every key of a configuration.")
def program(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """AG-FAS: a de-fake face generator, its anomalous cues, and the detectors they guide."""


# In the order of use, which --help keeps.
COMMANDS = (
    pictures.synth,
    pictures.prepare,
    pictures.simulate,
    pictures.show,
    experiments.train_dfg,
    experiments.train_tiny_autoencoder,
    experiments.inspect_dfg,
    experiments.cues,
    sharing.export_cues,
    sharing.import_cues,
    experiments.train,
    experiments.evaluate,
    experiments.sweep,
    experiments.quickstart,
    experiments.reproduce,
    experiments.probe,
    experiments.report,
    verdicts.detect,
    verdicts.demo,
    verdicts.serve,
    verdicts.threshold,
    verdicts.save_model,
    verdicts.calibrate,
    students.distill,
    verdicts.export,
    sharing.push,
    configuration.config,
)
# What launched processes do together. The rest is work for one: the main process does it, and the others end.
TOGETHER = {
    *(pictures.synth, pictures.simulate, experiments.train_dfg, experiments.inspect_dfg, experiments.cues),
    *(experiments.train, experiments.evaluate, experiments.sweep, experiments.quickstart, experiments.reproduce),
    *(experiments.probe, experiments.train_tiny_autoencoder),
}
# What runs a model, on a device that can be chosen.
COMPUTING = {
    *(TOGETHER - {pictures.synth, pictures.simulate}),
    *(verdicts.detect, verdicts.demo, verdicts.serve, verdicts.save_model, verdicts.calibrate, verdicts.export),
    students.distill,
}
for command in COMMANDS:
    work = command if command in TOGETHER else on_main(command)
    app.command(command.__name__.replace("_", "-"), cls=Command)(with_shared(work, computes=command in COMPUTING))


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
        _trace()
        leave(f"agfas: {error}", 1)
    except OSError as error:
        _trace()
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


def run() -> None:
    """`main` as a whole program: memory goes back to the system at once, where Python would take it apart for long."""
    try:
        main()
    except SystemExit as end:
        from pipelines.ending import end_at_once
        from pipelines.processes import is_launched

        if is_launched() or not isinstance(end.code, int):
            raise  # processes that met others leave their group at Python's own end
        end_at_once(end.code)


def _trace() -> None:
    """With `--verbose`, where the error came from."""
    from pipelines.progress import is_verbose

    if is_verbose():
        import traceback

        traceback.print_exc()


def _os_message(error: OSError) -> str:
    from pipelines.files import explain_os_error, file_of

    return str(explain_os_error(error, file_of(error) or Path()))


if __name__ == "__main__":
    run()
