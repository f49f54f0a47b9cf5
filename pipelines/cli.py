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


@app.command()
def prepare(
    source: Annotated[Path, typer.Argument(help="Folder of pictures and videos, a list, or a hub id.")],
    out: Annotated[Path, typer.Option(help="Folder of the face dataset to write.")],
    config: Annotated[Path | None, typer.Option(help="A recipe, a YAML file; options below override it.")] = None,
    importer: Annotated[str | None, typer.Option(help="The layout of SOURCE, e.g. msu_mfsd. [folder]")] = None,
    option: Annotated[list[str] | None, typer.Option(help="key=value for the importer (hf).")] = None,
    domain: Annotated[str | None, typer.Option(help="Name of the domain. [SOURCE's name]")] = None,
    detector: Annotated[str | None, typer.Option(help="Who finds the faces. [yunet]")] = None,
    weights: Annotated[Path | None, typer.Option(help="The detector's weights, a file or a folder.")] = None,
    min_score: Annotated[float | None, typer.Option(help="Least score of a face. [0]")] = None,
    aligned: Annotated[bool | None, typer.Option("--aligned", help="The pictures are crops; detect nothing.")] = None,
    size: Annotated[int | None, typer.Option(help="Side of the crops in pixels. [256]")] = None,
    template: Annotated[str | None, typer.Option(help="Where the landmarks lie in the crop. [agfas]")] = None,
    frames: Annotated[int | None, typer.Option(help="Frames of a video. [10]")] = None,
    frame_rule: Annotated[str | None, typer.Option(help="uniform, released_train or released_test. [uniform]")] = None,
    all_faces: Annotated[bool | None, typer.Option("--all-faces", help="Keep all faces, not the largest.")] = None,
    max_yaw: Annotated[float | None, typer.Option(help="Refuse faces turned further, in degrees.")] = None,
    max_pitch: Annotated[float | None, typer.Option(help="Refuse faces tilted further, in degrees.")] = None,
    min_quality: Annotated[float | None, typer.Option(help="Refuse faces of a lower quality score.")] = None,
    enhance: Annotated[bool | None, typer.Option("--enhance", help="Enhance the crops.")] = None,
    parsing_weights: Annotated[Path | None, typer.Option(help="Write face masks with this BiSeNet.")] = None,
    ratio: Annotated[float | None, typer.Option(help="The larger class has at most so many times the other.")] = None,
    max_refused: Annotated[float | None, typer.Option(help="Exit with 1 above this refused share. [0.01]")] = None,
    allow_missing: Annotated[bool | None, typer.Option("--allow-missing", help="Take an incomplete copy.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes. [the cores]")] = None,
) -> None:
    """Make a face dataset from anyone's pictures and videos."""
    given = {name: value for name, value in locals().items() if name not in ("source", "out", "config", "option")}
    from pipelines.stages import prepare as stage

    raise typer.Exit(stage.run(source, out, stage.read_recipe(config, given, option or [])))


@app.command()
def show(folder: Annotated[Path, typer.Argument(help="A face dataset.")]) -> None:
    """Print what a face dataset holds, check its splits, and write a contact sheet into it."""
    from pipelines.stages.show import run

    typer.echo("\n".join(run(folder)))


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


@app.command("export-cues")
def export_cues(
    store: Annotated[Path, typer.Argument(help="A finished cue store, as `agfas cues` names it.")],
    out: Annotated[Path, typer.Argument(help="Folder to write: parquet files and a dataset card, fit for the hub.")],
) -> None:
    """Write a cue store as parquet files that travel."""
    from pipelines.cues.exchange.outward import export_cues as export

    typer.echo(f"{export(store, out).count} cues: {out}")


@app.command("import-cues")
def import_cues(
    folder: Annotated[Path, typer.Argument(help="What `agfas export-cues` wrote.")],
    root: Annotated[Path, typer.Argument(help="Folder of cue stores.")],
) -> None:
    """Make an exported cue store again, with equal bytes."""
    from pipelines.cues.exchange.inward import import_cues as bring

    typer.echo(f"Cues: {bring(folder, root)}")


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
def reproduce(
    table: Annotated[str | None, typer.Argument(help="Such as agfas/IV or kuznetsov/8; --list names all.")] = None,
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value for every experiment.")] = None,
    on: Annotated[
        list[str] | None, typer.Option(help="Other data: synthetic, or a prepared dataset; may be repeated.")
    ] = None,
    map_: Annotated[
        list[str] | None, typer.Option("--map", help="PLACE=DOMAIN: which of the other data stands for which dataset.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="Run this row alone; may be repeated.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Comma-separated; the settings' where not given.")] = None,
    scale: Annotated[str | None, typer.Option(help="full or small. [full on the paper's data, else small]")] = None,
    data: Annotated[Path, typer.Option(help="Where the paper's datasets lie prepared.")] = Path("data"),
    output: Output = None,
    jobs: Jobs = 1,
    dry_run: DryRun = False,
    list_: Annotated[bool, typer.Option("--list", help="Name every table and what it needs.")] = False,
    configs: Annotated[Path, typer.Option(help="Folder of the tables' settings.")] = Path("configs/paper"),
) -> None:
    """Make a paper's table again, with the paper's numbers and ours side by side."""
    from pipelines.stages import reproduce as stage

    if list_ or table is None:
        return typer.echo("\n".join(stage.listing(configs)))
    asked = stage.Asked(
        table, tuple(on or ()), tuple(map_ or ()), tuple(only or ()), seeds, scale, data, output, configs,
        tuple(overrides or ()),
    )  # fmt: skip
    stage.run(asked, jobs, dry_run, typer.echo)


@app.command()
def probe(
    config: Config,
    overrides: Overrides = None,
    output: Output = None,
    against: Annotated[
        str | None, typer.Option(help="Label of a sweep whose cues all others are compared with.")
    ] = None,
) -> None:
    """Ask what each cue tells a logistic regression, before any detector is trained on it."""
    from pipelines.stages import probe as stage

    stage.run(_experiment(config, overrides, output), against)


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="The output folder of a quickstart, a sweep or a single experiment.")],
) -> None:
    """Write one self-contained HTML page about a run, and its table as CSV and Markdown."""
    from pipelines.stages import report as stage

    typer.echo(f"Report: {stage.run(run)}")


Run = Annotated[Path | None, typer.Option(help="The output folder of a quickstart, a sweep or a single experiment.")]
Label = Annotated[
    str | None, typer.Option(help="Which experiment of a run; the first with a generator's cue by default.")
]
Split = Annotated[str | None, typer.Option(help="Which split's detector of a run; the first by default.")]
FaceDetectorName = Annotated[str | None, typer.Option("--face-detector", help="Find faces with it, e.g. yunet.")]
Weights = Annotated[Path | None, typer.Option(help="The face detector's weights, a file or a folder.")]
ParsingWeights = Annotated[Path | None, typer.Option(help="Face parser's weights, for a cue with mask: face.")]


@app.command()
def detect(
    paths: Annotated[list[Path], typer.Argument(help="Pictures, videos, and folders of them.")],
    run: Run = None,
    model: Annotated[Path | None, typer.Option(help="A folder of `agfas save-model`, instead of --run.")] = None,
    label: Label = None,
    split: Split = None,
    aligned: Annotated[bool, typer.Option("--aligned", help="The pictures are aligned, square face crops.")] = False,
    face_detector: FaceDetectorName = None,
    weights: Weights = None,
    parsing_weights: ParsingWeights = None,
    all_faces: Annotated[bool, typer.Option("--all-faces", help="Judge every face; the largest decides.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    csv: Annotated[Path | None, typer.Option(help="Write the answers to this CSV file too.")] = None,
    save: Annotated[Path | None, typer.Option(help="Write an overlay of every answer to this folder.")] = None,
    frames: Annotated[int, typer.Option(help="Frames of a video, uniform in time; their scores are averaged.")] = 10,
) -> None:
    """Say whether the faces in pictures and videos are live."""
    from pipelines.stages import detect as stage

    detector = stage.open_detector(run, model, label, split, face_detector, weights, parsing_weights)
    text, refused = stage.run(
        paths, detector, aligned=aligned, all_faces=all_faces, frames=frames, json=as_json, csv=csv, save=save
    )
    typer.echo(text)
    if refused:
        typer.echo(f"agfas: {refused} could not be judged; the reason stands beside each.", err=True)
        raise typer.Exit(1)


@app.command()
def demo(
    run: Run = None,
    model: Annotated[Path | None, typer.Option(help="A folder of `agfas save-model`, instead of --run.")] = None,
    label: Label = None,
    split: Split = None,
    aligned: Annotated[bool, typer.Option("--aligned", help="The pictures are aligned, square face crops.")] = False,
    face_detector: FaceDetectorName = None,
    weights: Weights = None,
    parsing_weights: ParsingWeights = None,
    host: Annotated[str, typer.Option(help="Where to listen; 0.0.0.0 lets everyone in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the page.")] = 7860,
) -> None:
    """Serve a page that answers for an upload or the webcam (extra `demo`)."""
    from functools import partial

    from pipelines.stages import demo as stage
    from pipelines.stages.detect import open_detector

    opened = partial(open_detector, run, model, label, split, face_detector, weights, parsing_weights)
    stage.run(opened, host, port, aligned, typer.echo)


@app.command()
def threshold(
    source: Annotated[Path, typer.Argument(help="An output folder, or a score table (.parquet) of development faces.")],
    target: Annotated[Path | None, typer.Option(help="Another score table, judged at the fixed thresholds.")] = None,
    label: Annotated[str | None, typer.Option(help="Which experiment of a folder; the first by default.")] = None,
    split: Annotated[str | None, typer.Option(help="Which split of it; the first by default.")] = None,
    max_bpcer: Annotated[float, typer.Option(help="Share of live videos that may be rejected, for that kind.")] = 0.05,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Find thresholds on development scores, and what they cost there and on the target."""
    from pipelines.stages import threshold as stage

    typer.echo(stage.run(source, target, label, split, max_bpcer, as_json))


@app.command("save-model")
def save_model(
    run: Annotated[Path, typer.Argument(help="The output folder of a quickstart, a sweep or a single experiment.")],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    label: Label = None,
    split: Split = None,
    face_detector: FaceDetectorName = None,
    weights: Weights = None,
    parsing_weights: ParsingWeights = None,
) -> None:
    """Write one folder with a trained detector, all that it needs, and a model card."""
    from pipelines.stages import save_model as stage

    typer.echo(stage.run(run, out, label, split, face_detector, weights, parsing_weights))


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
