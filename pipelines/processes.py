"""Which of the launched processes this is, what it computes on, and how it agrees with the others.

A process that no launcher started is the first of one, which takes neither torch nor accelerate to know: a command
that only reads or prints never loads them.

Processes wait for each other on the CPU (gloo), so that no agreement synchronises a GPU and no watchdog of NCCL ends a
long wait. A wait fails after `AGFAS_TIMEOUT` seconds (environment variable; default 21600, six hours), which must be
longer than anything that one process does alone.
"""

from __future__ import annotations

import atexit
import gc
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cache, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from pipelines.devices import cpu_is_forced
from pipelines.errors import AgfasError, OtherProcessFailed

if TYPE_CHECKING:
    from accelerate import PartialState
    from torch.distributed import ProcessGroup

Value = TypeVar("Value")
Item = TypeVar("Item")
P = ParamSpec("P")

_SIX_HOURS = 6 * 3600
# For a file that another machine has just made, a tenth of a second each.
_LOOKS = 50
# Set by torchrun and `accelerate launch`, and by the MPI implementations that accelerate reads.
_LAUNCHERS = ("WORLD_SIZE", "LOCAL_RANK", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
# What launchers set in the environment of their processes, by its beginning.
_OF_A_LAUNCHER = (
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_", "ROLE_", "MASTER_", "TORCHELASTIC_"),
    *("PMI_", "PMIX_", "OMPI_", "MV2_"),
)

# Ways of accelerate to share one model out: they leave no place for averaged weights, and their checkpoints are others.
_SHARDING = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
}


def is_launched() -> bool:
    """Whether a launcher started this process, perhaps as one of several."""
    return any(name in os.environ for name in _LAUNCHERS)


def on_cpu() -> bool:
    """Whether this computes on the CPU; accelerate needs this flag, or it sees several CPU processes as one."""
    if cpu_is_forced():
        return True
    import torch

    return not torch.accelerator.is_available()


def state() -> PartialState:
    """accelerate's view of the processes, set up on first use, by all processes together.

    Raises:
        AgfasError: `AGFAS_TIMEOUT` is no number of seconds, or the launcher was told to shard the model.
    """
    import torch.distributed
    from accelerate import PartialState

    for name, method in _SHARDING.items():
        if os.environ.get(name, "").lower() in ("1", "true"):
            raise AgfasError(
                f"{method} is not supported: every process holds the whole model. Launch with"
                " `distributed_type: MULTI_GPU`, as in configs/accelerate/multi_gpu.yaml."
            )
    if torch.distributed.is_available():
        # Imported later, as DDP does, its functions have the group for a default argument, and it never ends.
        import torch.distributed.nn.functional
    return PartialState(cpu=on_cpu(), timeout=_timeout())


def _timeout() -> timedelta:
    given = os.environ.get("AGFAS_TIMEOUT") or _SIX_HOURS
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e8:
        raise AgfasError(f"The environment variable AGFAS_TIMEOUT = {given} is no number of seconds above 0.")
    return timedelta(seconds=seconds)


def _is_alone() -> bool:
    return not is_launched() or state().num_processes == 1


@cache
def _cpu_group() -> ProcessGroup | None:
    """The processes as a group that meets on the CPU, None for the default one. All must ask for it together."""
    import torch.distributed as dist

    group = None
    if dist.get_backend() != "gloo":
        group = cast("ProcessGroup", dist.new_group(backend="gloo", timeout=_timeout()))
    atexit.register(_leave, group)
    return group


def _leave(group: ProcessGroup | None) -> None:
    """End gloo's threads: one that lets go of a tensor while Python ends aborts the process, whose work is done."""
    import torch.distributed as dist

    gc.collect()  # what was trained by several processes refers to their group
    dist.destroy_process_group(group)


def is_main() -> bool:
    """Whether this process writes what only one may write."""
    return not is_launched() or state().is_main_process


def rank_and_world() -> tuple[int, int]:
    """Index of this process and the number of processes."""
    return (state().process_index, state().num_processes) if is_launched() else (0, 1)


def say(text: str) -> None:
    """Print on the main process alone."""
    if is_main():
        print(text, flush=True)


def on_main(work: Callable[P, Any]) -> Callable[P, Any]:
    """`work` on the main process, nothing on the others."""

    @wraps(work)
    def once(*args: P.args, **options: P.kwargs) -> Any:
        return work(*args, **options) if is_main() else None

    return once


def wait() -> None:
    """Wait until every process gets here."""
    any_process(False)


def any_process(flag: bool) -> bool:
    """Whether `flag` is true on any process. Every process must call it."""
    if _is_alone():
        return flag
    import torch

    flags = torch.tensor([int(flag)])
    torch.distributed.all_reduce(flags, torch.distributed.ReduceOp.MAX, group=_cpu_group())
    return bool(flags.item())


def gather_objects(value: Value) -> list[Value]:
    """The values of all processes by rank, the same list on every process. Every process must call it."""
    if _is_alone():
        return [value]
    import torch

    values: list[Value] = [value] * state().num_processes
    torch.distributed.all_gather_object(values, value, group=_cpu_group())
    return values


def spread(items: Sequence[Item], work: Callable[[Item], Value]) -> list[Value]:
    """`work` of every item in order, the same list on every process. Every process must call it, and does its share."""
    rank, world_size = rank_and_world()
    parts = gather_objects([work(item) for item in items[rank::world_size]])
    return [parts[place % world_size][place // world_size] for place in range(len(items))]


@contextmanager
def main_process_first() -> Iterator[None]:
    """Let the first process make an artefact while the others wait, then let them find it.

    Raises:
        OtherProcessFailed: on the other processes, if the first one failed, with its message.
    """
    if not is_main():
        _hear_of_failure(None)
        yield
        return
    try:
        yield
    except Exception as error:
        _hear_of_failure(error)
        raise
    _hear_of_failure(None)


def require_shared(folder: Path) -> None:
    """Check that every process sees the same `folder`, which need not exist. Every process must call it.

    Raises:
        AgfasError: on every process: machines, or containers, that do not see it.
    """
    if _is_alone():
        return
    places = [folder.absolute(), *folder.absolute().parents]
    depth = next(depth for depth, place in enumerate(places) if place.is_dir())
    token = places[depth] / f".agfas-{os.getpid()}-{os.urandom(4).hex()}"
    if is_main():
        with suppress(OSError):  # a folder that is only read
            token.touch()
    depth, name, exists = gather_objects((depth, token.name, token.is_file()))[0]
    sees = not exists or _appears(places[min(depth, len(places) - 1)] / name)
    hosts = gather_objects((platform.node(), sees))
    if is_main():
        token.unlink(missing_ok=True)
    without = sorted({host for host, sees in hosts if not sees})
    if without:
        raise AgfasError(
            f"The output folder {folder} of {hosts[0][0]} is another one on {', '.join(without)}. All machines must"
            " share it: choose a folder of a shared file system with --output."
        )


def _appears(path: Path) -> bool:
    """Whether a file is there, with the patience that network file systems ask for."""
    for _ in range(_LOOKS):
        if path.is_file():
            return True
        time.sleep(0.1)
    return False


def _hear_of_failure(error: BaseException | None) -> None:
    """Tell every process of the main one's failure, if any."""
    failure = gather_objects(None if error is None else f"{error}")[0]
    if failure is not None and error is None:
        raise OtherProcessFailed(failure)


def device() -> str:
    """The device of this process: accelerate's if there are others, which it has given theirs, else the machine's."""
    if is_launched() or "ACCELERATE_TORCH_DEVICE" in os.environ:
        return str(state().device)
    if on_cpu():
        return "cpu"
    import torch

    return str(torch.accelerator.current_accelerator())


def threads() -> int:
    """How many threads this process may use: the cores it may run on, shared with its siblings on this machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


def stand_alone() -> None:
    """Make this process, which a launched one has spawned, the first of one: it must not meet the launcher's others."""
    for name in [name for name in os.environ if name.startswith(_OF_A_LAUNCHER)]:
        del os.environ[name]


def package_versions(names: Sequence[str]) -> dict[str, str]:
    """Versions of installed packages by name."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def processor() -> str:
    """The processor's model."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


@contextmanager
def environment_with(added: Mapping[str, str]) -> Iterator[None]:
    """Variables that this process, and what it starts, has inside the block; afterwards those of before."""
    before = {name: os.environ.get(name) for name in added}
    os.environ.update(added)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
