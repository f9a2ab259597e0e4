"""Processes that share every batch learn what one learns: whole trainings over gloo, their ends and failures."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import neurosbd
from neurosbd.errors import UsageError
from neurosbd.files import checkpoints
from neurosbd.learning.batch import Batch, share_of
from neurosbd.learning.learner import Learner
from neurosbd.learning.ranks import ALONE, Group
from neurosbd.runs.run import CHECKPOINT
from neurosbd.training.sharing import check_sharing
from tests.test_ranks import bare, by_hand, started

TOGETHER = """
import json, os, sys
import torch
import neurosbd
from neurosbd.learning.batch import share_of
from neurosbd.learning.learner import Learner
from neurosbd.learning.ranks import ALONE, check_same, joined, place_of
from neurosbd.noise import part_of
from neurosbd.training.parameter_groups import parameter_groups
from neurosbd.training.sharing import NO_REQUESTS, add_up

def learned(ranks, model, rule, settings, dtype, sizes):
    experiment = neurosbd.load_model(model, rule, settings).build()
    network = experiment.network.to(dtype)
    learner = Learner(network, experiment.rule, experiment.loss, torch.Generator().manual_seed(1), ranks)
    assert learner.rule.why_alone() is None
    optimizer = experiment.optimizer.build(parameter_groups(network, experiment, learner))
    learning = [p for group in optimizer.param_groups for p in group["params"]]
    generator, losses, steps = torch.Generator().manual_seed(2), [], min(6, experiment.definition.time.steps)
    for step, size in enumerate(sizes):
        x = (torch.rand(steps, size, 1, 8, 8, generator=generator) < 0.3).to(dtype)
        labels = torch.randint(10, (size,), generator=generator)
        optimizer.zero_grad()
        learner.progress = step / len(sizes)
        batch = share_of(neurosbd.Batch(x, labels), ranks)
        noise = part_of(torch.Generator().manual_seed(step), batch.first)
        result = learner.learn(batch, noise=noise)
        sums, _ = add_up(ranks, learning, result.loss.double()[None], NO_REQUESTS)
        losses.append(float(sums))
        optimizer.step()
        learner.after_step()
    found = {**dict(network.named_parameters()), **dict(network.named_buffers()), **learner.parameters}
    for name, state in getattr(learner.state, "modulators", {}).items():
        found |= {f"{name}.{key}": value for key, value in (state._asdict() if state else {}).items()}
    return found, losses

with joined(place_of(os.environ), torch.device("cpu")) as ranks:
    for model, rule, settings in json.loads(sys.argv[1]):
        worst = []
        for dtype, sizes in ((torch.float64, (7, 4, 1, 2)), (torch.float32, (16,) * 20)):
            (together, shared), (alone, single) = (
                learned(each, model, rule, settings, dtype, sizes) for each in (ranks, ALONE)
            )
            check_same(ranks, together)
            weights = max(float((together[n] - a).detach().abs().max()) for n, a in alone.items() if a.numel())
            worst += [weights, max(abs(one - other) for one, other in zip(shared, single))]
        print(json.dumps(worst), flush=True)
"""
UPKEEP = [{"kind": "weight_entropy", "on": "all", "weight": 0.1}]
HOMEOSTASIS = [
    {"kind": "power", "weight": 0.1}, {"kind": "sparsity", "weight": 0.01},
    {"kind": "layer_entropy", "weight": 0.01, "examples": 5, "refresh": 1},
]  # fmt: skip
# The bias of a standardised unit has no gradient but rounding, which Adam would make a whole step of.
STANDARDISED: dict[str, object] = {
    "population.hidden1.neuron": {"kind": "standardised", "neuron": "tanh"},
    "training.optimizer": {"kind": "sgd", "lr": 0.1},
}
EXCITABLE: dict[str, object] = {"population.hidden1.neuron": {"kind": "intrinsic_plasticity", "rate": 0.05}}
CASES: list[tuple[str, str, dict[str, object]]] = [
    ("digits-mlp", "sbd", {}),
    ("digits-mlp", "sbd", {"rule.forward_broadcast": 0.1, "rule.upkeep": UPKEEP}),
    ("digits-mlp", "sbd", {"rule.homeostasis": HOMEOSTASIS}),
    ("digits-mlp", "sbd", {"rule.expansion": ["gated", "bartlett", "another", "coarse"]}),
    ("digits-mlp", "sbp", {}),
    ("digits-mlp", "dfa", {}),
    ("digits-mlp", "bp", {}),
    ("digits-mlp", "sbd", STANDARDISED),
    ("digits-mlp", "bp", STANDARDISED),
    ("digits-mlp", "fa", STANDARDISED),
    ("digits-mlp", "sbd", EXCITABLE),
    ("digits-mlp", "bp", EXCITABLE),
    ("digits-mlp", "pepita", EXCITABLE),
    ("digits-mlp", "pepita", {}),
    ("digits-mlp", "mono_forward", {}),
    ("digits-mlp", "forward_forward", {}),
    ("digits-mlp", "node_perturbation", {"rule.size": 0.1}),  # what rounding does to losses counts 1 / size times
    ("digits-mlp", "weight_perturbation", {"rule.size": 0.1}),
    ("digits-mlp", "dfa", {"population.hidden1.dropout": 0.5}),
    ("digits-snn", "sbd", {}),
    ("digits-snn", "sbp", {}),
    ("digits-snn", "eprop", {}),
    ("digits-snn", "rstdp", {}),
    ("digits-snn", "bptt", {}),
    ("digits-snn", "sbd", {"population.hidden1.neuron": "escape", "population.hidden2.dropout": 0.2}),
]
SMALL = ["--set", "training.epochs=2", "--set", "data.subset=20"]


def fit(places: list[dict[str, str]], *arguments: str) -> list["subprocess.Popen[str]"]:
    """Processes that fit side by side."""
    line = [sys.executable, "-m", "neurosbd", "fit", *arguments]
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return [subprocess.Popen(line, env=bare(**place), **pipes) for place in places]


def ended(processes: list["subprocess.Popen[str]"], seconds: float = 120) -> list[tuple[int, str, str]]:
    """Exit status, output and errors of each."""
    told = [process.communicate(timeout=seconds) for process in processes]
    return [(process.returncode, *texts) for process, texts in zip(processes, told, strict=True)]


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    """As they were last kept."""
    return checkpoints.load(run / CHECKPOINT)["network"]


def lines_of(run: Path) -> list[dict[str, Any]]:
    """Of metrics.jsonl, without what takes time or memory."""
    apart = ("seconds", "samples_per_second", "peak_memory_bytes")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in apart} for line in lines]


def test_two_processes_learn_what_one_does() -> None:
    """Shares of 3 and 4 examples, 2 and 2, 0 and 1, 1 and 1, in float64: weights, heads and projections to 1e-12. In
    float32, the losses of 20 batches to 1e-5. Both hold the same bits.

    Must fail when statistics are not summed (tried), a score carries the 1/B of the share (tried), or what weights ask
    for themselves is counted twice (tried).
    """
    told = [text.splitlines() for text in started(TOGETHER, by_hand(2), json.dumps(CASES))]
    assert all(len(lines) == len(CASES) for lines in told)
    for line, case in zip(told[0], CASES, strict=True):
        weights, losses, _, narrow = json.loads(line)
        assert weights < 1e-12 and losses < 1e-12 and narrow < 1e-5, (case, line)


def test_a_share_is_the_rank_s_rows_of_the_batch() -> None:
    """Inputs that come step by step stay so; targets of every step and tasks go along. Must fail when the axis of steps
    is cut (tried)."""
    x, target, task = torch.randn(3, 5, 2), torch.randn(3, 5, 4), torch.arange(5)
    parts = [share_of(Batch(x, target, task=task), Group(rank, 2)) for rank in range(2)]
    assert all(len(part.inputs) == 3 and part.batch_size == 5 for part in parts)  # type: ignore[arg-type]
    assert torch.equal(torch.cat([torch.stack(list(part.inputs)) for part in parts], 1), x)
    assert torch.equal(torch.cat([part.target for part in parts], 1), target)
    assert torch.equal(torch.cat([part.task for part in parts if part.task is not None]), task)
    streamed = share_of(Batch((frame for frame in x), target[0], [1 / 3] * 3), Group(1, 2))
    assert torch.equal(torch.stack(list(streamed.inputs)), x[:, 2:])
    whole = Batch(x, target)
    assert share_of(whole, ALONE) is whole


def test_torchrun_fits_as_one_process_does(tmp_path: Path) -> None:
    """The command of the documentation: metrics of every epoch to 1e-5 and the weights; rank 0 alone speaks, and says
    how many there are. Must fail when every rank counts its own examples as all (tried)."""
    arguments = ["digits-mlp", *SMALL, "--set", "training.checkpoint_every=1"]
    neurosbd.fit("digits-mlp", settings={"training.epochs": 2, "data.subset": 20}, out=tmp_path / "one")
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3", "-m", "neurosbd"]
    line += ["fit", *arguments, "--out", str(tmp_path / "three")]
    done = subprocess.run(line, capture_output=True, text=True, env=bare(), timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("finished in") == 1 and "3 ranks x 10.6667 examples" in done.stdout
    for one, three in zip(lines_of(tmp_path / "one"), lines_of(tmp_path / "three"), strict=True):
        assert three == pytest.approx(one, abs=1e-5)
    one, three = weights_of(tmp_path / "one"), weights_of(tmp_path / "three")
    for name, weight in one.items():
        torch.testing.assert_close(three[name], weight, rtol=0, atol=1e-5)
    assert neurosbd.open_run(tmp_path / "three").config["ranks"] == 3
    assert not list(tmp_path.glob("three/*.lock"))


def test_a_signal_to_one_rank_stops_all_and_others_go_on(tmp_path: Path) -> None:
    """SIGTERM to rank 1 of 2 after some steps; a single process goes on to what one would have come to. Must fail
    when a rank stops by its own signal (tried: the other waits for it and fails)."""
    arguments = ["digits-mlp", "--set", "training.epochs=40", "--set", "data.subset=20", "--out", str(tmp_path / "run")]
    processes = fit(by_hand(2), *arguments)
    metrics, deadline = tmp_path / "run" / "metrics.jsonl", time.monotonic() + 60
    while not (metrics.exists() and metrics.read_text().count("\n") > 1):
        assert time.monotonic() < deadline and processes[0].poll() is None
        time.sleep(0.01)
    processes[1].send_signal(signal.SIGTERM)
    for status, _, errors in ended(processes):
        assert status == 1 and "interrupted after" in errors, errors
    run = neurosbd.open_run(tmp_path / "run")
    assert run.result["status"] == "interrupted" and 1 < run.result["epochs"] < 40
    ((status, _, errors),) = ended(fit([{}], *arguments[:2], *arguments[2:], "--resume"))
    assert status == 0, errors
    settings = {"training.epochs": 40, "data.subset": 20}
    neurosbd.fit("digits-mlp", settings=settings, out=tmp_path / "one")
    one, other = weights_of(tmp_path / "one"), weights_of(tmp_path / "run")
    for name, weight in one.items():
        torch.testing.assert_close(other[name], weight, rtol=0, atol=1e-3)


def test_ranks_go_on_with_a_run_of_one(tmp_path: Path) -> None:
    """Checkpoints know nothing of how many wrote them. Must fail when only rank 0 takes the checkpoint up (tried)."""
    out, settings = tmp_path / "run", {"data.subset": 20, "training.epochs": 4}
    code = "import neurosbd, sys\nfrom neurosbd.training.session import Session\nstep, done = Session.step, []\n"
    code += "def stop(self, *given):\n    done.append(1)\n    if len(done) == 9:\n        raise KeyboardInterrupt\n"
    code += "    return step(self, *given)\nSession.step = stop\n"
    code += f"neurosbd.fit('digits-mlp', settings={settings}, out={str(out)!r})\n"
    subprocess.run([sys.executable, "-c", code], env=bare(), capture_output=True, timeout=120)
    assert neurosbd.open_run(out).result["status"] == "interrupted"
    arguments = ["digits-mlp", "--set", "data.subset=20", "--set", "training.epochs=4", "--out", str(out), "--resume"]
    for status, _, errors in ended(fit(by_hand(2), *arguments)):
        assert status == 0, errors
    neurosbd.fit("digits-mlp", settings=settings, out=tmp_path / "one")
    for one, two in zip(lines_of(tmp_path / "one"), lines_of(out), strict=True):
        assert two == pytest.approx(one, abs=1e-4)


def test_rank_0_records_its_own_examples(tmp_path: Path) -> None:
    """Of its share of a batch, and weights, which are those of all. What reaches further than its share, or needs all
    examples, is refused. Must fail when the rows are numbered as those of the whole (tried)."""
    record = ["hidden1.rate[examples=2:7,every=2 batch]", "output.rate[on=test,examples=0:3]", "*.weight", "loss"]
    settings = {"training.epochs": 2, "data.subset": 20, "record.signals": record}
    one = neurosbd.fit("digits-mlp", settings=settings, out=tmp_path / "one")
    asked = [part for signal in record for part in ("--record", signal)]
    processes = fit(by_hand(2), "digits-mlp", *SMALL, *asked, "--out", str(tmp_path / "two"))
    told = ended(processes)
    assert all(status == 0 for status, *_ in told), told
    two, share = neurosbd.open_run(tmp_path / "two"), one.definition.training.batch_size // 2
    for name in one.trace.names:
        wanted, found = one.trace[name][:], two.trace[name][:]
        wanted = wanted[:, : found.shape[1]]
        there = ~np.isnan(found)  # the last batch of an epoch is a small one
        assert there.mean() > 0.8 and np.allclose(found[there], wanted[there], atol=1e-5), name
    assert two.trace["loss"][:].shape[1] == share
    for spec in (f"hidden1.rate[examples={share}:]", "input->hidden1.alignment"):
        (status, _, errors), _ = ended(fit(by_hand(2), "digits-mlp", *SMALL, "--record", spec))
        assert status == 2 and spec.split("[")[0] in errors and "Traceback" not in errors, errors


def test_a_rank_that_is_killed_ends_the_others(tmp_path: Path) -> None:
    """With a message, exit status 1, and the checkpoint of the last epoch. Must fail when they wait for ever."""
    arguments = ["digits-mlp", "--set", "training.epochs=1000", "--out", str(tmp_path / "run")]
    processes = fit(by_hand(2), *arguments)
    checkpoint, deadline = tmp_path / "run" / CHECKPOINT, time.monotonic() + 60
    while not checkpoint.exists():
        assert time.monotonic() < deadline and processes[0].poll() is None
        time.sleep(0.01)
    os.kill(processes[1].pid, signal.SIGKILL)
    (status, _, errors), _ = ended(processes)
    assert status == 1 and re.search(r"rank 0 of 2 has lost the others .*The last checkpoint is kept", errors), errors
    assert "Traceback" not in errors and neurosbd.open_run(tmp_path / "run").result["status"] == "failed"
    assert weights_of(tmp_path / "run")


@pytest.mark.parametrize(
    ("model", "settings", "reason"),
    [
        ("digits-corinfomax", {}, "Correlative changes is no sum over examples"),
        ("digits-corinfomax-ep", {}, "the lateral weights of corinfomax_ep follow the rates"),
        ("digits-snn", {"rule": "stdp"}, "SpikeTiming changes is no sum over examples"),
        ("digits-mlp", {"rule": {"kind": "pepita", "form": "time_local"}}, "pepita with form time_local moves weights"),
        (
            "digits-snn",
            {"connection.0.plasticity": "spike_timing"},
            "'input->hidden1' changes by a plasticity of its own",
        ),
    ],
)
def test_what_cannot_be_shared_is_refused(model: str, settings: dict[str, Any], reason: str) -> None:
    """With its reason; alone it is fine. Must fail when a rule is not asked (tried)."""
    experiment = neurosbd.load_model(model, settings=settings).build()
    loss, generator = experiment.loss, torch.Generator().manual_seed(0)
    learner = Learner(experiment.network, experiment.rule, loss, generator)
    check_sharing(experiment, learner, ALONE)
    with pytest.raises(UsageError, match=f"2 processes cannot share a batch here: .*{reason}.*without torchrun"):
        check_sharing(experiment, learner, Group(1, 2))
