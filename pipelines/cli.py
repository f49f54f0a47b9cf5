"""`agfas COMMAND`: thin; every command reads one experiment and calls one stage.

Only typer and the standard library are imported here, so that `agfas --help` answers at once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from pipelines.config import Experiment

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="AG-FAS: a de-fake face generator, its anomalous cues, and the detectors they guide.",
)

Config = Annotated[Path, typer.Argument(help="Experiment, a YAML file; see configs/.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="key=value, e.g. cue.timestep=401.")]
Output = Annotated[Path | None, typer.Option(help="Folder for everything that is made.")]
Jobs = Annotated[int, typer.Option(help="Experiments trained at once, each with its share of the cores.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan and each run's state; make nothing.")]


@app.command()
def synth(
    out: Annotated[Path, typer.Argument(help="Folder of the face dataset to write.")],
    subjects: Annotated[int, typer.Option(help="Subjects of each attack domain.")] = 30,
    domains: Annotated[str | None, typer.Option(help="Comma-separated capture domains; all where not given.")] = None,
    size: Annotated[int, typer.Option(help="Side of the faces in pixels.")] = 64,
    corpus_subjects: Annotated[int, typer.Option(help="Subjects of the live corpus for the generator.")] = 300,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
) -> None:
    """Write the built-in benchmark as a face dataset, with a contact sheet."""
    from pipelines.stages.synth import run

    names = [name.strip() for name in domains.split(",")] if domains else None
    run(
        out,
        {
            "subjects": subjects,
            "domains": names,
            "size": size,
            "corpus_subjects": corpus_subjects,
            "seed": seed,
        },
    )


@app.command("train-dfg")
def train_dfg(config: Config, overrides: Overrides = None, output: Output = None, dry_run: DryRun = False) -> None:
    """Train the identity encoder and the de-fake face generator on live faces."""
    _stages(config, overrides, output, dry_run, last="train-dfg")


@app.command("inspect-dfg")
def inspect_dfg(
    config: Config,
    overrides: Overrides = None,
    output: Output = None,
    timesteps: Annotated[str, typer.Option(help="Comma-separated t of the sampler's grid.")] = "201,401,601,801,981",
    count: Annotated[int, typer.Option(help="Faces of each group at most.")] = 128,
) -> None:
    """Measure how well faces are restored by t, with the right, a wrong and no identity."""
    from pipelines.stages import inspect_dfg as stage
    from pipelines.stages.cues import parse_timesteps

    experiment = _experiment(config, overrides, output)
    stage.run(experiment, parse_timesteps(timesteps, experiment), count)


@app.command()
def cues(
    config: Config,
    overrides: Overrides = None,
    output: Output = None,
    timesteps: Annotated[str | None, typer.Option(help="Several t in one run, e.g. 201,401.")] = None,
    status: Annotated[bool, typer.Option("--status", help="Count what is done.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Check all shards; recompute a sample and compare.")] = False,
    dry_run: DryRun = False,
) -> None:
    """Restore every face and cache the result."""
    from pipelines.stages import cues as stage

    experiment = _experiment(config, overrides, output)
    chosen = stage.parse_timesteps(timesteps, experiment)
    if status:
        stage.print_status(experiment, chosen)
    elif verify:
        stage.verify(experiment, chosen)
    elif dry_run:
        _plan(experiment)
    else:
        stage.run_alone(experiment, chosen)


@app.command()
def train(config: Config, overrides: Overrides = None, output: Output = None, dry_run: DryRun = False) -> None:
    """Train one detector for every split of the protocol; what it needs is made first."""
    _stages(config, overrides, output, dry_run, last="train")


@app.command()
def evaluate(config: Config, overrides: Overrides = None, output: Output = None, dry_run: DryRun = False) -> None:
    """Score the trained detectors and judge the scores under every rule."""
    _stages(config, overrides, output, dry_run, last="evaluate")


@app.command()
def sweep(
    config: Config, overrides: Overrides = None, output: Output = None, jobs: Jobs = 1, dry_run: DryRun = False
) -> None:
    """Run a grid of experiments, each thing they share made once, and report on them together."""
    from pipelines.stages import sweep as stage

    experiment = _experiment(config, overrides, output)
    stage.print_plan(experiment) if dry_run else stage.run(experiment, jobs)


@app.command()
def quickstart(
    config: Annotated[Path, typer.Argument(help="Experiment to run whole.")] = Path("configs/quickstart.yaml"),
    overrides: Overrides = None,
    minutes: Annotated[float, typer.Option(help="Budget on two cores; training steps scale with it.")] = 15.0,
    output: Output = None,
    jobs: Jobs = 2,
    dry_run: DryRun = False,
) -> None:
    """The whole chain on the built-in benchmark, with a report at the end."""
    from pipelines.stages import quickstart as stage

    experiment = stage.scaled(_experiment(config, overrides, output), minutes)
    stage.print_plan(experiment) if dry_run else stage.run(experiment, jobs)


@app.command()
def probe(config: Config, overrides: Overrides = None, output: Output = None) -> None:
    """Ask what each cue tells a logistic regression, before any detector is trained on it."""
    from pipelines.stages import probe as stage

    stage.run(_experiment(config, overrides, output))


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="The output folder of a quickstart, a sweep or a single experiment.")],
) -> None:
    """Write one self-contained HTML page about a run, and its table as CSV and Markdown."""
    from pipelines.stages import report as stage

    typer.echo(f"Report: {stage.run(run)}")


@app.command()
def detect(
    picture: Annotated[Path, typer.Argument(help="One aligned face crop.")],
    run: Annotated[Path, typer.Option(help="The output folder of a quickstart, a sweep or a single experiment.")],
    label: Annotated[
        str | None, typer.Option(help="Which variant of a sweep; the first with a cue by default.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Which split's detector; the first by default.")] = None,
    overlay: Annotated[Path | None, typer.Option(help="Where to write the picture of face, restoration, cue.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say whether the face in a picture is live."""
    from pipelines.stages import detect as stage

    typer.echo(stage.run(picture, run, label=label, split=split, overlay=overlay, as_json=as_json))


def _experiment(config: Path, overrides: list[str] | None, output: Path | None) -> Experiment:
    from pipelines.config_file import read_experiment

    given = list(overrides or [])
    if output is not None:
        given.append(f"output={output}")
    return read_experiment(config, given)


def _stages(config: Path, overrides: list[str] | None, output: Path | None, dry_run: bool, last: str) -> None:
    from pipelines.stages import chain

    experiment = _experiment(config, overrides, output)
    chain.print_plan(experiment) if dry_run else chain.run(experiment, last)


def _plan(experiment: Any) -> None:
    from pipelines.stages import chain

    chain.print_plan(experiment)


# What typer returns for Ctrl-C.
_INTERRUPTED = 130


def main() -> None:
    """Entry point: a mistake is answered with one sentence, Ctrl-C with how to go on."""
    from pipelines.errors import AgfasError

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
