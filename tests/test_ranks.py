"""Ranks: who is where, whose examples are whose, sums over processes that really are several, and their failures."""

import ast
import json
import os
import signal
import socket
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

import neurosbd
from neurosbd.errors import UsageError
from neurosbd.learning.ranks import ALONE, Group, Place, check_same, joined, place_of

ROOT = Path(__file__).resolve().parents[1]
TORCHRUN = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
SRUN = {
    "SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4", "SLURM_LOCALID": "1", "SLURM_JOB_ID": "123456",
    "SLURM_STEP_NODELIST": "gpu[07-08,11]",
}  # fmt: skip


@pytest.mark.parametrize(
    ("environ", "place"),
    [
        ({}, None),
        (TORCHRUN, Place(1, 2, 1, "localhost:29500", "torchrun")),
        (TORCHRUN | {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}, None),
        (SRUN, Place(3, 4, 1, "gpu07:18456", "srun")),
        (SRUN | {"SLURM_STEP_NODELIST": "a1,b2", "MASTER_PORT": "4000"}, Place(3, 4, 1, "a1:4000", "srun")),
        (SRUN | {"MASTER_ADDR": "10.0.0.1"}, Place(3, 4, 1, "10.0.0.1:18456", "srun")),
        (TORCHRUN | SRUN, Place(1, 2, 1, "localhost:29500", "torchrun")),  # torchrun within a step
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_JOB_ID": "1"}, None),  # a batch script: one process
        ({"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}, None),
    ],
)
def test_the_environment_says_who_is_where(environ: dict[str, str], place: Place | None) -> None:
    assert place_of(environ) == place


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"WORLD_SIZE": "2"}, "RANK is not set, but others of torchrun are; start with torchrun, or unset RANK"),
        ({k: v for k, v in TORCHRUN.items() if k != "MASTER_ADDR"}, "MASTER_ADDR is not set"),
        (TORCHRUN | {"RANK": "-1"}, "RANK must be a whole number >= 0, got '-1'"),
        (TORCHRUN | {"WORLD_SIZE": "two"}, "WORLD_SIZE must be a whole number >= 0, got 'two'"),
        (TORCHRUN | {"RANK": "2"}, "rank 2 of 2 processes, 1 on its machine, which cannot be; ranks go from 0 to 1"),
        ({k: v for k, v in SRUN.items() if k != "SLURM_JOB_ID"}, "SLURM_JOB_ID is not set, but others of srun are"),
    ],
)
def test_an_environment_that_cannot_be_is_refused(environ: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        place_of(environ)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_every_example_is_one_rank_s(size: int) -> None:
    """Must fail when a batch is cut into equal shares, which leaves a rest (tried: count // size)."""
    ranks = [Group(rank, size) for rank in range(size)]
    for count in range(20):
        shares = [one.rows(count) for one in ranks]
        assert [i for share in shares for i in range(count)[share]] == list(range(count))
        lengths = [len(range(count)[share]) for share in shares]
        assert max(lengths) - min(lengths) <= 1
        assert all(one.stop == next_.start for one, next_ in pairwise(shares))
    assert ALONE.rows(9) == slice(0, 9) and ALONE.size == 1


def test_alone_nothing_is_copied() -> None:
    parts = (torch.ones(3), torch.zeros(()))
    assert all(a is b for a, b in zip(ALONE.total(*parts), parts, strict=True))
    with joined(None, torch.device("cpu")) as ranks:
        assert ranks is ALONE


SUMS = """
import hashlib, json, os, sys
import torch
from neurosbd.errors import UsageError
from neurosbd.learning.ranks import joined, place_of
with joined(place_of(os.environ), torch.device("cpu")) as ranks:
    seed = torch.Generator().manual_seed(ranks.rank)
    narrow, wide = torch.randn(1000, generator=seed), torch.randn(3, 5, generator=seed, dtype=torch.float64)
    kept = narrow.clone()
    sums = ranks.total(narrow, wide, torch.tensor(2.0**24 + 1, dtype=torch.float64), torch.empty(0, 4))
    assert torch.equal(narrow, kept) and ranks.total() == ()
    try:
        ranks.total(torch.ones(2, dtype=torch.long))
    except UsageError as problem:
        said = str(problem)
    bits = hashlib.sha256(b"".join(part.numpy().tobytes() for part in sums)).hexdigest()
    whole = [list(part.shape) for part in sums], [str(part.dtype) for part in sums]
    rows = ranks.rows(7)
    told = [ranks.rank, ranks.size, rows.start, rows.stop, bits, whole, sums[0][0].item(), sums[2].item(), said]
    os.write(1, (json.dumps(told) + chr(10)).encode())  # at once: torchrun's processes share a pipe
"""
SAME = """
import os
import torch
from neurosbd.errors import RunError
from neurosbd.learning.ranks import check_same, joined, place_of
with joined(place_of(os.environ), torch.device("cpu")) as ranks:
    weights = {"a": torch.arange(6.0).view(2, 3).t(), "b": torch.tensor([0.0, 1.0]), "c": torch.tensor(3.0)}
    check_same(ranks, weights)
    weights["b"][0] *= 1 - 2 * ranks.rank  # -0 on rank 1
    try:
        check_same(ranks, weights)
    except RunError as problem:
        print(problem)
"""
LEARNS = """
import os, sys
import torch
import neurosbd
from neurosbd.learning.ranks import ALONE, check_same, joined, place_of

def learned(ranks, model, rule, batch):
    network = neurosbd.load_model(model).network().double()
    learner = neurosbd.learner(network, rule, seed=0)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    steps = neurosbd.load_model(model).time.steps
    generator = torch.Generator().manual_seed(3)
    for step in range(4):
        x = torch.rand(steps, batch, 1, 8, 8, dtype=torch.float64, generator=generator)
        labels, rows = torch.randint(10, (batch,), generator=generator), ranks.rows(batch)
        optimizer.zero_grad()
        learner.progress = step / 4
        share = len(labels[rows]) / batch
        parameters = list(network.parameters())
        if share:
            learner.learn(neurosbd.Batch(x[:, rows], labels[rows]))
        own = [torch.zeros_like(p) if p.grad is None else p.grad * share for p in parameters]
        for parameter, whole in zip(parameters, ranks.total(*own), strict=True):
            parameter.grad = whole
        optimizer.step()
        learner.after_step()
    return dict(network.named_parameters())

with joined(place_of(os.environ), torch.device("cpu")) as ranks:
    worst = 0.0
    for model, rule in (("digits-mlp", "dfa"), ("digits-mlp", "bp"), ("digits-snn", "dfa"), ("digits-snn", "bptt")):
        for batch in (7, 1):
            together, alone = (learned(each, model, rule, batch) for each in (ranks, ALONE))
            check_same(ranks, together)
            worst = max(worst, *(float((together[name] - alone[name]).abs().max()) for name in alone))
    print(worst)
"""
LOST = """
import os, sys, time
from datetime import timedelta
import torch
from neurosbd.errors import RunError
from neurosbd.learning import ranks
ranks.PATIENCE = timedelta(seconds=float(sys.argv[1]))
try:
    with ranks.joined(ranks.place_of(os.environ), torch.device("cpu")) as group:
        group.total(torch.ones(2))
        if group.rank == 1:
            os._exit(7)
        group.total(torch.ones(2))
        print("went on")
except RunError as problem:
    print(problem)
"""


def free_port() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return door.getsockname()[1]


def bare(**more: str) -> dict[str, str]:
    """The environment without what starters of processes set."""
    starters = ("SLURM_", "RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(starters)}
    return kept | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | more


def started(program: str, places: list[dict[str, str]], *arguments: str) -> list[str]:
    """What processes of these environments print, side by side."""
    line = [sys.executable, "-c", program, *arguments]
    all_ = [subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=bare(**place)) for place in places]
    return [process.communicate(timeout=120)[0] for process in all_]


def by_hand(size: int) -> list[dict[str, str]]:
    """As torchrun tells its processes."""
    port = str(free_port())
    meeting = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [meeting | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(size)]


def by_slurm(size: int) -> list[dict[str, str]]:
    """As srun tells its processes."""
    step = {"SLURM_STEP_NUM_TASKS": str(size), "SLURM_JOB_ID": "77", "SLURM_STEP_NODELIST": "localhost"}
    step["MASTER_PORT"] = str(free_port())
    return [step | {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)} for rank in range(size)]


def summed(told: list[str]) -> None:
    """Whether two processes have found the same sums, and those of a single one."""
    found: list[Any] = sorted(json.loads(text.splitlines()[-1]) for text in told)
    parts = [torch.randn(1000, generator=torch.Generator().manual_seed(rank)) for rank in range(2)]
    for rank, (own, size, start, stop, hashed, whole, first, exact, said) in enumerate(found):
        assert (own, size, hashed, whole) == (rank, 2, found[0][4], found[0][5])
        assert (start, stop) == ((0, 3), (3, 7))[rank]
        assert whole[0] == [[1000], [3, 5], [], [0, 4]]
        assert whole[1] == [f"torch.float{bits}" for bits in (32, 64, 64, 32)]
        assert first == float((parts[0][0].double() + parts[1][0].double()).float())
        assert exact == 2.0**25 + 2 and "must be floating point, got torch.int64" in said


@pytest.mark.parametrize("environments", [by_hand, by_slurm])
def test_two_processes_find_the_sums_of_both(environments: Any) -> None:
    """The same bits on both, in the types given, in the widest one on the way. Must fail when parts are summed in the
    type of the first (tried: 2^24 + 1 is no float32)."""
    summed(started(SUMS, environments(2)))


def test_torchrun_starts_them(tmp_path: Path) -> None:
    (tmp_path / "sums.py").write_text(SUMS)
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([*line, str(tmp_path / "sums.py")], capture_output=True, text=True, env=bare(), timeout=120)
    assert done.returncode == 0, done.stderr
    summed(done.stdout.splitlines())


def test_linear_rules_learn_together_what_they_learn_alone() -> None:
    """Gradients that are sums over examples, in float64: shares of 3 and 4 examples, and of one and none.

    Must fail when a share is not weighted by its size (tried), or the rank without an example stays away.
    """
    worst = [float(text) for text in started(LEARNS, by_hand(2))]
    assert 0 < max(worst) < 1e-12, worst


def test_weights_that_have_drifted_apart_are_named_on_every_rank() -> None:
    """By a single bit, the sign of a zero. Must fail when values are compared (tried)."""
    for text in started(SAME, by_hand(2)):
        assert text.startswith("'b' is not the same on all ranks: 1 of 0 to 1 have another than rank 0. They must run")
    check_same(ALONE, {"a": torch.ones(2)})


def test_a_rank_that_ends_is_named_by_the_others() -> None:
    """Not a hang, not a traceback. Must fail when errors of the collective are let through (tried)."""
    told = started(LOST, by_hand(2), "60")
    assert told[0].startswith("rank 0 of 2 has lost the others (") and "checkpoint is kept" in told[0]


def test_ranks_that_do_not_come_are_waited_for_and_named() -> None:
    told = started(LOST, by_hand(2)[:1], "2")[0]
    assert told.startswith("rank 0 of 2 has not met the others at 127.0.0.1:") and "nothing was written" in told


def test_nothing_else_knows_of_other_processes() -> None:
    """Must fail when another module imports torch.distributed (tried)."""
    found = []
    for path in sorted((ROOT / "neurosbd").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            used = isinstance(node, ast.Attribute) and ast.unparse(node).startswith("torch.distributed")
            if used or any("distributed" in f"{module}.{name}".split(".") for name in names):
                found.append(path.relative_to(ROOT / "neurosbd").as_posix())
    assert set(found) == {"learning/ranks.py"}


def test_an_experiment_that_torchrun_starts_several_times_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rather than run once by each, without a word. Must fail when nobody looks (tried)."""
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=r"torchrun has started 2 processes.*start it without torchrun"):
        neurosbd.simulate("stdp-window", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


WAITS = """
import signal, threading, torch
from neurosbd.learning.ranks import Place, joined
from neurosbd.runs.interrupt import Interrupt
with Interrupt():
    threading.Timer(0.5, signal.pthread_kill, (threading.get_ident(), signal.SIGTERM)).start()
    with joined(Place(0, 2, 0, "localhost:{port}", "srun"), torch.device("cpu")):
        pass
"""


def test_a_rank_that_waits_for_others_ends_at_sigterm() -> None:
    """Must fail when handlers of Python stay there (tried: it waits for ten minutes)."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    ended = subprocess.run([sys.executable, "-c", WAITS.format(port=port)], timeout=120, check=False)
    assert ended.returncode == -signal.SIGTERM
