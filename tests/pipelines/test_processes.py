"""What launched processes agree on, and that they wait for each other without an end of patience."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from launching import ended, environment, start

from pipelines.errors import AgfasError
from pipelines.processes import any_process, gather_objects, main_process_first, say, state, wait

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
