"""Commands that run an experiment or read its results: generator, cues, detectors, tables.

`--output` is the run's folder: everything is made in it, and the same command with the same folder resumes the run.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.commands.shared import complete_config

if TYPE_CHECKING:
    from pipelines.cost.parts import Part
    from pipelines.experiment.config import Experiment

_EXPERIMENT = "Experiment: a YAML file, or a shipped one by its name, such as loo."
Config = Annotated[Path, typer.Argument(help=_EXPERIMENT, autocompletion=complete_config)]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="key=value, e.g. cue.timestep=401; `agfas config` explains every key.")
]
Output = Annotated[Path | None, typer.Option(help="The run's folder. Default: runs/NAME.")]
Jobs = Annotated[int, typer.Option(help="Experiments trained at once; they share the cores and the GPUs.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan and the state of each part; make nothing.")]
Costs = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Print the plan and the state of each part, and what the rest costs: memory, time, disk. Makes nothing;"
        " loads torch if something is left, to count the operations of the models.",
    ),
]
Gpu = Annotated[
    str | None,
    typer.Option(help="With --dry-run: a100-40, a100-80, h100 or rtx4090. Default: this machine, measured."),
]
Gpus = Annotated[int | None, typer.Option(help="With --dry-run: number of GPUs. Default: 1, or those of this machine.")]


def train_dfg(
    config: Config,
    overrides: Overrides = None,
    output: Output = None,
    dry_run: Costs = False,
    gpu: Gpu = None,
    gpus: Gpus = None,
) -> None:
    """Train identity encoder and generator on live faces.

    \b
    Examples:
      agfas train-dfg dfg_compact
      agfas train-dfg loo generator.loop.steps=6000 --output runs/longer
      agfas train-dfg dfg_paper --dry-run --gpu a100-80 --gpus 8
    """
    _run_stages(config, overrides, output, dry_run, last="train-dfg", gpu=gpu, gpus=gpus)


def train_tiny_autoencoder(
    config: Config, overrides: Overrides = None, output: Output = None, dry_run: DryRun = False
) -> None:
    """Train a small autoencoder with the latents of the generator's own.

    With `cue.autoencoder=trained` it encodes and decodes in its place. It learns from live faces alone, and ends with
    how well it does so on faces that it was not trained on.

    \b
    Examples:
      agfas train-tiny-autoencoder loo
      agfas train-tiny-autoencoder dfg_compact tiny_autoencoder.loop.steps=50000
    """
    from pipelines.stages import train_tiny_autoencoder as stage

    experiment = _read(config, overrides, output)
    stage.print_plan(experiment) if dry_run else stage.run_alone(experiment)


def inspect_dfg(
    config: Config,
    overrides: Overrides = None,
    output: Output = None,
    timesteps: Annotated[str, typer.Option(help="Comma-separated t of the sampler's grid.")] = "201,401,601,801,999",
    count: Annotated[int, typer.Option(help="Maximum number of faces per group.")] = 128,
    dry_run: DryRun = False,
) -> None:
    """Measure the restoration error by t and identity.

    The generator is conditioned on the right, a wrong and no identity.

    \b
    Examples:
      agfas inspect-dfg loo --timesteps 201,601
    """
    from pipelines.stages import inspect_dfg as stage
    from pipelines.stages.cues import parse_timesteps

    experiment = _read(config, overrides, output)
    chosen = parse_timesteps(timesteps, experiment)
    stage.print_plan(experiment, chosen, count) if dry_run else stage.run(experiment, chosen, count)


def cues(
    config: Config,
    overrides: Overrides = None,
    output: Output = None,
    timesteps: Annotated[str | None, typer.Option(help="Several t in one run, e.g. 201,401.")] = None,
    whole_dataset: Annotated[
        bool, typer.Option("--whole-dataset", help="Every face of the dataset, not only the protocol's domains.")
    ] = False,
    status: Annotated[bool, typer.Option("--status", help="Count the finished cues.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Check all shards; recompute a sample and compare.")] = False,
    dry_run: Costs = False,
    gpu: Gpu = None,
    gpus: Gpus = None,
) -> None:
    """Restore every face and store the result.

    \b
    Examples:
      agfas cues loo --timesteps 201,401,801
      agfas cues loo --status
      agfas cues released --whole-dataset
    """
    from pipelines.cost.parts import parts_of_cues
    from pipelines.stages import cues as stage

    _check_costs(dry_run, gpu, gpus)
    experiment = _read(config, overrides, output, gpu)
    chosen = stage.parse_timesteps(timesteps, experiment)
    if status or dry_run:
        stage.print_status(experiment, chosen, whole_dataset)
        if dry_run:
            _print_costs(parts_of_cues(experiment, chosen, whole_dataset), gpu, gpus)
    elif verify:
        stage.verify(experiment, chosen, whole_dataset)
    else:
        stage.run_alone(experiment, chosen, whole_dataset)


def train(
    config: Config,
    overrides: Overrides = None,
    output: Output = None,
    dry_run: Costs = False,
    gpu: Gpu = None,
    gpus: Gpus = None,
) -> None:
    """Train one detector per fold of the protocol.

    Generator and cues are made first if the detector needs them.

    \b
    Examples:
      agfas train loo
      agfas train detectors/vit data.name=dataset data.path=faces/ --device cuda:1
    """
    _run_stages(config, overrides, output, dry_run, last="train", gpu=gpu, gpus=gpus)


def evaluate(config: Config, overrides: Overrides = None, output: Output = None, dry_run: DryRun = False) -> None:
    """Score the detectors; error rates under every rule.

    What is missing (generator, cues, detectors) is made first.

    \b
    Examples:
      agfas evaluate loo cue.timestep=201
      agfas evaluate photos --dry-run
    """
    _run_stages(config, overrides, output, dry_run, last="evaluate")


def sweep(
    config: Config,
    overrides: Overrides = None,
    output: Output = None,
    jobs: Jobs = 1,
    dry_run: Costs = False,
    gpu: Gpu = None,
    gpus: Gpus = None,
) -> None:
    """Run a grid of experiments and write one report.

    What the experiments share is made once.

    \b
    Examples:
      agfas sweep study --jobs 2
      agfas sweep detectors/cdcn --dry-run
    """
    from pipelines.cost.parts import parts_of_plan
    from pipelines.stages import sweep as stage

    _check_costs(dry_run, gpu, gpus)
    experiment = _read(config, overrides, output, gpu)
    if not dry_run:
        return stage.run(experiment, jobs)
    stage.print_plan(experiment)
    _print_costs(parts_of_plan(experiment), gpu, gpus)


def quickstart(
    config: Config = Path("configs/quickstart.yaml"),
    overrides: Overrides = None,
    minutes: Annotated[float, typer.Option(help="Minutes on two cores; scales the training steps.")] = 15.0,
    output: Output = None,
    jobs: Jobs = 2,
    dry_run: DryRun = False,
) -> None:
    """Run the whole chain on the built-in benchmark.

    It ends with a table and a report.

    \b
    Examples:
      agfas quickstart
      agfas quickstart --minutes 5 --output runs/first
    """
    from pipelines.stages import sweep as stage

    if "=" in config.name and not config.is_file():  # an override, behind no configuration
        config, overrides = Path("configs/quickstart.yaml"), [str(config), *(overrides or ())]
    experiment = stage.scaled(_read(config, overrides, output), minutes)
    stage.print_plan(experiment) if dry_run else stage.run(experiment, jobs)


def reproduce(
    table: Annotated[str | None, typer.Argument(help="E.g. agfas/IV or kuznetsov/8; --list prints all.")] = None,
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value for every experiment.")] = None,
    on: Annotated[
        list[str] | None, typer.Option(help="Other data: synthetic, or a prepared dataset; may be repeated.")
    ] = None,
    map_: Annotated[
        list[str] | None, typer.Option("--map", help="PLACE=DOMAIN: a domain of the other data for a paper's dataset.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="Run only this row; may be repeated.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Comma-separated. Default: the table's seeds.")] = None,
    scale: Annotated[
        str | None, typer.Option(help="full or small. Default: full on the paper's data, small on other data.")
    ] = None,
    data: Annotated[Path, typer.Option(help="Folder of the paper's prepared datasets.")] = Path("data"),
    output: Output = None,
    jobs: Jobs = 1,
    dry_run: Costs = False,
    gpu: Gpu = None,
    gpus: Gpus = None,
    list_: Annotated[bool, typer.Option("--list", help="Print every table and the datasets it needs.")] = False,
    configs: Annotated[Path, typer.Option(help="Folder of the tables' settings.")] = Path("configs/paper"),
) -> None:
    """Reproduce a paper's table.

    The paper's numbers and ours are side by side.

    \b
    Examples:
      agfas reproduce --list
      agfas reproduce agfas/IV --on synthetic
      agfas reproduce kuznetsov/8 --dry-run
    """
    from pipelines.processes import say
    from pipelines.reproduce.request import Asked, listing

    if list_ or table is None:
        return say("\n".join(listing(configs)))
    from pipelines.stages import reproduce as stage

    asked = Asked(
        table, tuple(on or ()), tuple(map_ or ()), tuple(only or ()), seeds, scale, data, output, configs,
        (*(["profile=gpu"] if gpu else []), *(overrides or ())),
    )  # fmt: skip
    _check_costs(dry_run, gpu, gpus)
    if not dry_run:
        stage.run(asked, jobs)
    elif parts := stage.plan(asked):
        _print_costs(parts, gpu, gpus)


def probe(
    config: Config,
    overrides: Overrides = None,
    output: Output = None,
    against: Annotated[str | None, typer.Option(help="Label of the variant that all cues are compared with.")] = None,
    dry_run: DryRun = False,
) -> None:
    """Measure what a logistic regression gains from a cue.

    It takes a minute and needs no trained detector.

    \b
    Examples:
      agfas probe loo
      agfas probe remedies --output runs/study
    """
    experiment = _read(config, overrides, output)
    if dry_run:
        from pipelines.stages.chain import print_plan

        return print_plan(experiment)
    from pipelines.stages import probe as stage

    stage.run(experiment, against)


def report(
    run: Annotated[Path, typer.Argument(help="Output folder of a quickstart, a sweep or a single experiment.")],
) -> None:
    """Write an HTML page, CSV and Markdown about a run.

    \b
    Examples:
      agfas report runs/loo
    """
    from pipelines.stages import report as stage

    typer.echo(f"Report: {stage.run(run)}")


def _read(config: Path, overrides: list[str] | None, output: Path | None, gpu: str | None = None) -> Experiment:
    """The experiment of a file, with the overrides of the command line; for a named GPU in the profile that it has."""
    from pipelines.experiment.file import read_experiment, read_mapping
    from pipelines.experiment.shipped import find_config
    from pipelines.processes import require_shared

    given = list(overrides or [])
    config = find_config(config)
    if gpu is not None and read_mapping(config).get("profile", "auto") == "auto":
        given.insert(0, "profile=gpu")
    if output is not None:
        given.append(f"output={output}")
    experiment = read_experiment(config, given)
    require_shared(experiment.root)
    return experiment


def _run_stages(
    config: Path,
    overrides: list[str] | None,
    output: Path | None,
    dry_run: bool,
    last: str,
    gpu: str | None = None,
    gpus: int | None = None,
) -> None:
    """Run the chain up to the stage `last`, or print what would be run and, but for `evaluate`, what it costs."""
    from pipelines.cost.parts import parts_of_makers, parts_of_plan
    from pipelines.stages import chain

    _check_costs(dry_run, gpu, gpus)
    experiment = _read(config, overrides, output, gpu)
    if not dry_run:
        return chain.run(experiment, last)
    chain.print_plan(experiment)
    if last != "evaluate":
        _print_costs((parts_of_makers if last == "train-dfg" else parts_of_plan)(experiment), gpu, gpus)


def _check_costs(dry_run: bool, gpu: str | None, gpus: int | None) -> None:
    """Refuse an unknown GPU, and one that nothing is asked about."""
    from pipelines.cost.machines import check_gpu
    from pipelines.errors import AgfasError

    check_gpu(gpu, gpus)
    if not dry_run and (gpu or gpus):
        raise AgfasError("--gpu and --gpus say what --dry-run estimates costs for: add --dry-run, or leave them out.")


def _print_costs(parts: list[Part], gpu: str | None, gpus: int | None) -> None:
    """What the rest of a plan costs; torch is loaded only if there is a rest."""
    from pipelines.cost.parts import left_of
    from pipelines.processes import is_main

    if (left := left_of(parts)) and is_main():
        from pipelines.cost.models import print_costs

        print_costs(left, gpu, gpus)
