"""What launched processes agree on, and that they wait for each other without an end of patience."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from launching import ended, environment, start

from pipelines import processes
from pipelines.errors import AgfasError, OtherProcessFailed
from pipelines.processes import (
    any_process,
    gather_objects,
    is_launched,
    is_main,
    main_process_first,
    on_main,
    package_versions,
    processor,
    rank_and_world,
    require_shared,
    say,
    spread,
    stand_alone,
    state,
    threads,
    wait,
)

AGREE = """
import json, os, sys, time
import torch.distributed as dist
from pipelines import processes
from pipelines.errors import AgfasError, OtherProcessFailed
from pipelines.processes import any_process, gather_objects, is_main, main_process_first, rank_and_world, say, wait

rank, world = rank_and_world()
if sys.argv[1] == "second":  # as on GPUs, whose group cannot meet on the CPU
    dist.get_backend = lambda: "nccl"
said = {"none": any_process(False), "one": any_process(rank == world - 1), "all": gather_objects({"rank": rank})}
order = []
with main_process_first():
    if is_main():
        time.sleep(0.2)
    order.append(time.time())
said["in order"] = all(first <= later for (first,), (later,) in zip(gather_objects(order), gather_objects(order)[1:2]))
try:
    with main_process_first():
        if is_main():
            raise AgfasError("no room")
except AgfasError as error:
    said["failed"] = [type(error).__name__, str(error)]
wait()
said["groups are two"] = processes._cpu_group() is not None
say("once")
print(json.dumps(said), flush=True)
if sys.argv[1] == "second":
    os._exit(0)  # the default group, which gloo's threads keep here, ends with the process on a GPU
"""


@pytest.mark.slow  # `training/test_any_number_of_processes.py` has a fast case of two
@pytest.mark.parametrize("group", ["default", "second"])
def test_three_processes_agree(tmp_path, group):
    script = tmp_path / "agree.py"
    script.write_text(AGREE)
    ranks = ended(start(3, script, group, AGFAS_TIMEOUT=60))
    assert [code for code, _, _ in ranks] == [0, 0, 0], ranks[0][2]
    said = [json.loads(out.splitlines()[-1]) for _, out, _ in ranks]
    for rank, one in enumerate(said):
        assert (one["none"], one["one"]) == (False, True)
        assert one["all"] == [{"rank": 0}, {"rank": 1}, {"rank": 2}]
        assert one["in order"]
        assert one["failed"] == ["AgfasError" if rank == 0 else "OtherProcessFailed", "no room"]
        assert one["groups are two"] == (group == "second")
    assert [out.count("once") for _, out, _ in ranks] == [1, 0, 0]


def test_a_process_alone_agrees_with_itself(capsys):
    assert [any_process(True), any_process(False), gather_objects(3)] == [True, False, [3]]
    wait()
    with main_process_first():
        say("here")
    assert capsys.readouterr().out == "here\n"


def test_a_process_alone_needs_no_torch():
    code = (
        "import sys; from pipelines.processes import *; from pipelines.processes import any_process, say, wait;"
        "wait(); say('a'); any_process(True); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], env=environment(), check=True)


@pytest.mark.parametrize("given", ["soon", "0", "-3", "nan", "inf"])
def test_the_timeout_is_a_number_of_seconds(monkeypatch, given):
    monkeypatch.setenv("AGFAS_TIMEOUT", given)
    with pytest.raises(AgfasError, match=f"AGFAS_TIMEOUT = {given} is no number of seconds above 0"):
        state()


@pytest.mark.parametrize(("name", "method"), [("FSDP", "FSDP"), ("DEEPSPEED", "DeepSpeed")])
def test_sharded_models_are_refused(monkeypatch, name, method):
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
    with pytest.raises(AgfasError, match=f"{method} is not supported"):
        state()


@pytest.mark.parametrize("given", ["no", "", "0", "false"])
def test_models_that_are_not_sharded_are_not_refused(monkeypatch, given):
    for name in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):
        monkeypatch.setenv(f"ACCELERATE_USE_{name}", given)
    assert state().num_processes == 1
    monkeypatch.setenv("ACCELERATE_USE_MEGATRON_LM", "1")
    with pytest.raises(AgfasError, match="Megatron-LM is not supported"):
        state()


@pytest.mark.parametrize(("given", "seconds"), [(None, 21_600), ("", 21_600), ("0.5", 0.5), ("90000000", 9e7)])
def test_processes_wait_for_six_hours_or_as_long_as_asked(monkeypatch, given, seconds):
    monkeypatch.delenv("AGFAS_TIMEOUT", raising=False)
    if given is not None:
        monkeypatch.setenv("AGFAS_TIMEOUT", given)
    assert processes._timeout() == timedelta(seconds=seconds)


def test_a_timeout_of_years_is_refused(monkeypatch):
    monkeypatch.setenv("AGFAS_TIMEOUT", "1e8")
    with pytest.raises(AgfasError, match="AGFAS_TIMEOUT = 1e8"):
        processes._timeout()


LAUNCHERS = ["WORLD_SIZE", "LOCAL_RANK", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE"]


@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_launched_process_is_known_by_its_environment_until_it_stands_alone(monkeypatch, name):
    for each in LAUNCHERS:
        monkeypatch.delenv(each, raising=False)
    assert not is_launched()
    assert (is_main(), rank_and_world()) == (True, (0, 1))
    of_a_launcher = [
        *("RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "ROLE_NAME", "MASTER_PORT", "TORCHELASTIC_RUN_ID"),
        *("PMI_RANK", "PMIX_ID", "OMPI_X", "MV2_X", name),
    ]
    for each in of_a_launcher:
        monkeypatch.setenv(each, "1")
    monkeypatch.setenv("HOME_OF_MINE", "stays")
    assert is_launched()
    stand_alone()
    assert not is_launched()
    assert not set(of_a_launcher) & os.environ.keys()
    assert os.environ["HOME_OF_MINE"] == "stays"


@pytest.fixture
def second_of_three(monkeypatch) -> SimpleNamespace:
    """As if this were process 1 of 3; what is gathered is what `said` answers."""
    here = SimpleNamespace(num_processes=3, process_index=1, is_main_process=False, said=lambda value: [value] * 3)
    monkeypatch.setattr(processes, "is_launched", lambda: True)
    monkeypatch.setattr(processes, "state", lambda: here)
    monkeypatch.setattr(processes, "gather_objects", lambda value: here.said(value))
    return here


def test_another_process_knows_its_place_and_leaves_work_to_the_main_one(second_of_three, capsys):
    assert (is_main(), rank_and_world()) == (False, (1, 3))
    say("nothing")
    done = []
    assert on_main(done.append)(1) is None
    second_of_three.is_main_process = True
    assert on_main(lambda a, b=0: a + b)(1, b=2) == 3
    say("something")
    assert done == []
    assert capsys.readouterr().out == "something\n"


def test_work_is_spread_in_order(second_of_three):
    """The parts of ranks 0 and 2 are made as theirs would be."""
    items = [3, 1, 4, 1, 5, 9, 2]
    second_of_three.said = lambda own: [[10 * x for x in items[0::3]], own, [10 * x for x in items[2::3]]]
    assert spread(items, lambda item: 10 * item) == [10 * item for item in items]
    assert spread([], lambda item: item) == []


def test_others_hear_of_the_main_process_failure_with_its_words(second_of_three):
    second_of_three.said = lambda own: ["no room", own, own]
    with pytest.raises(OtherProcessFailed, match=r"^no room$"), main_process_first():
        raise AssertionError("the others do not begin")
    second_of_three.said = lambda own: [None, own, own]
    done = []
    with main_process_first():
        done.append(1)
    assert done == [1]


def test_flags_and_values_meet_in_a_group(monkeypatch):
    monkeypatch.setattr(processes, "_is_alone", lambda: False)
    monkeypatch.setattr(processes, "_cpu_group", lambda: "the group")
    monkeypatch.setattr(processes, "state", lambda: SimpleNamespace(num_processes=3))
    seen = []

    def all_reduce(flags, how, group):
        seen.append((flags.tolist(), how, group))
        flags += 1

    def all_gather_object(values, value, group):
        seen.append((list(values), value, group))
        values[:] = ["a", value, "c"]

    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    monkeypatch.setattr(torch.distributed, "all_gather_object", all_gather_object)
    assert any_process(False) is True
    assert any_process(True) is True
    assert gather_objects("b") == ["a", "b", "c"]
    most = torch.distributed.ReduceOp.MAX
    assert seen == [([0], most, "the group"), ([1], most, "the group"), (["b"] * 3, "b", "the group")]


@pytest.mark.parametrize("sees", [True, False])
def test_a_folder_that_another_machine_does_not_see_is_refused(second_of_three, tmp_path, monkeypatch, sees):
    """The main process touches a file in the deepest folder that is there; `out/run` is not."""
    monkeypatch.setattr(processes, "_LOOKS", 2)
    monkeypatch.setattr(processes.time, "sleep", lambda seconds: None)
    token, asked = tmp_path / ".agfas-1-ff", []

    def said(own):
        asked.append(own)
        if len(asked) == 1:
            if sees:
                token.touch()
            return [(2, token.name, True), own, own]
        return [("first", True), own, ("third", True)]

    second_of_three.said = said
    if sees:
        require_shared(tmp_path / "out" / "run")
    else:
        with pytest.raises(AgfasError, match=rf"{tmp_path}/out/run of first is another one on {platform.node()}\. All"):
            require_shared(tmp_path / "out" / "run")
    (depth, name, exists), seen_here = asked
    assert (depth, exists) == (2, False)
    assert name.startswith(f".agfas-{os.getpid()}-")
    assert seen_here == (platform.node(), sees)


def test_the_main_process_shows_a_file_and_takes_it_away(second_of_three, tmp_path):
    second_of_three.is_main_process, seen = True, []

    def said(own):
        seen.append([path.name for path in tmp_path.iterdir()])
        return [own] * 3

    second_of_three.said = said
    require_shared(tmp_path / "run")
    assert seen[0] == seen[1]
    assert len(seen[0]) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("cores", "given", "expected"), [(8, None, 8), (8, "3", 2), (2, "4", 1)])
def test_threads_are_the_cores_shared_with_its_siblings(monkeypatch, cores, given, expected):
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    if given:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", given)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(cores), raising=False)
    assert threads() == expected
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert threads() == expected
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert threads() == 1


def test_versions_and_the_processor_are_named(monkeypatch):
    assert package_versions(["torch", "no-such-package"]) == {
        "torch": version("torch"),
        "no-such-package": "not installed",
    }
    text = "processor : 0\nmodel name\t: A: fast one \nflags : x\n"
    monkeypatch.setattr(Path, "is_file", lambda self: str(self) == "/proc/cpuinfo")
    monkeypatch.setattr(Path, "read_text", lambda self, **options: text)
    assert processor() == "A: fast one"
    monkeypatch.setattr(Path, "is_file", lambda self: False)
    for known, expected in (("arm", "arm"), ("", "unknown")):
        monkeypatch.setattr(platform, "processor", lambda known=known: known)
        assert processor() == expected


def test_a_file_of_another_machine_is_waited_for_five_seconds(monkeypatch, tmp_path):
    slept = []
    monkeypatch.setattr(processes.time, "sleep", slept.append)
    assert not processes._appears(tmp_path / "a")
    assert slept == [0.1] * 50
    (tmp_path / "a").touch()
    assert processes._appears(tmp_path / "a")
    assert len(slept) == 50


@pytest.mark.parametrize("backend", ["gloo", "nccl"])
def test_processes_meet_on_the_cpu(monkeypatch, backend):
    made, left = [], []
    monkeypatch.setattr(torch.distributed, "get_backend", lambda: backend)
    monkeypatch.setattr(torch.distributed, "new_group", lambda **how: made.append(how) or "a group")
    monkeypatch.setattr(processes.atexit, "register", lambda *given: left.append(given))
    monkeypatch.setenv("AGFAS_TIMEOUT", "7")
    found = processes._cpu_group.__wrapped__()
    assert found == (None if backend == "gloo" else "a group")
    assert made == ([] if backend == "gloo" else [{"backend": "gloo", "timeout": timedelta(seconds=7)}])
    assert left == [(processes._leave, found)]


# A model of the group is in a cycle, as those of a training are. What is registered first comes last.
ENDING = """
import atexit
from pathlib import Path

def of_gloo():
    names = [(task / "comm").read_text() for task in Path("/proc/self/task").iterdir()]
    return sum("gloo" in name for name in names)

atexit.register(lambda: print(before, of_gloo()))
import torch
from pipelines.processes import any_process
any_process(False)
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 2))
model(torch.ones(1, 2)).sum().backward()
model.cycle = [model]
del model
before = of_gloo()
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are listed in /proc")
def test_no_thread_of_gloo_is_there_when_python_ends(tmp_path):
    """One that lets go of a tensor then aborts the process: code 134 after its work was done, on busy machines."""
    (tmp_path / "ending.py").write_text(ENDING)
    for code, printed, errors in ended(start(2, tmp_path / "ending.py")):
        assert code == 0, errors
        before, after = map(int, printed.split())
        assert before > 1
        assert after == 0


def test_the_state_is_set_up_with_the_patience_that_was_asked_for(monkeypatch):
    seen = []
    monkeypatch.setattr("accelerate.PartialState", lambda **how: seen.append(how) or "the state")
    monkeypatch.setenv("AGFAS_TIMEOUT", "7")
    monkeypatch.setattr(processes, "on_cpu", lambda: True)
    assert state() == "the state"
    assert seen == [{"cpu": True, "timeout": timedelta(seconds=7)}]


@pytest.mark.parametrize(("launched", "count", "alone"), [(False, 3, True), (True, 1, True), (True, 2, False)])
def test_a_launched_process_may_be_alone(monkeypatch, launched, count, alone):
    monkeypatch.setattr(processes, "is_launched", lambda: launched)
    monkeypatch.setattr(processes, "on_cpu", lambda: True)
    here = SimpleNamespace(num_processes=count, is_main_process=False, process_index=2, device="a device")
    monkeypatch.setattr(processes, "state", lambda: here)
    assert processes._is_alone() is alone
    assert is_main() is not launched
    assert rank_and_world() == ((2, count) if launched else (0, 1))
    assert processes.device() == ("a device" if launched else "cpu")
