"""Plasticity experiments: every task and protocol, their run directories, wrong input."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neurosbd import library
from neurosbd.errors import UsageError
from neurosbd.experiment.lessons import TaskLessons
from neurosbd.experiment.resolve import load_model
from neurosbd.experiment.session import Session
from neurosbd.experiment.simulate import run_experiment
from neurosbd.learners import Outcome
from neurosbd.tasks import PROTOCOLS, TASKS
from neurosbd.tasks.evidence import EvidenceAccumulation

EXPERIMENTS = [n for n in library.names("models") if load_model(n).task or load_model(n).protocol]
QUICK: dict[str, dict[str, Any]] = {
    "stdp-window": {"protocol.longest": 20, "protocol.every": 10, "protocol.period": 50},
    "dopamine-conditioning": {"protocol.duration": 0.4, "protocol.batch": 4},
}
SMALL = {"training.epochs": 1, "training.batches": 1, "training.batch_size": 4, "training.test_batches": 1}


def settings(name: str) -> dict[str, Any]:
    """The experiment in a few hundred steps."""
    if name in QUICK:
        return QUICK[name]
    kind = load_model(name).task.kind  # type: ignore[union-attr]
    short = {
        "evidence_accumulation": {"task.cue": 5, "task.pause": 8, "task.delay": 10, "task.recall": 5},
        "pattern_generation": {"task.duration": 30},
        "delayed_xor": {"task.duration": 30},
    }
    return SMALL | short[kind]


def test_every_task_and_protocol_has_an_experiment() -> None:
    definitions = [load_model(name) for name in EXPERIMENTS]
    assert {d.task.kind for d in definitions if d.task} == set(TASKS)
    assert {d.protocol.kind for d in definitions if d.protocol} == set(PROTOCOLS)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiments_leave_measures_curves_and_a_figure(name: str, tmp_path: Path) -> None:
    run = run_experiment(name, settings=settings(name), out=tmp_path / "run")
    assert run.result["status"] == "finished" and run.result["measures"]
    assert all(np.isfinite(v) for v in run.result["measures"].values())
    assert (tmp_path / "run" / "figure.png").stat().st_size > 5000
    rows = (tmp_path / "run" / "curves.csv").read_text().splitlines()
    assert rows[0] == "panel,line,x,y" and len(rows) > 3
    again = run_experiment(name, settings=settings(name), out=tmp_path / "again")
    assert again.result["measures"] == run.result["measures"]


@pytest.mark.parametrize("kind", list(TASKS))
def test_tasks_draw_trials_from_the_generator_alone(kind: str) -> None:
    task = TASKS[kind]()
    inputs, outputs = task.sizes()
    made = [task.trial(8, 1e-3, torch.Generator().manual_seed(3)) for _ in range(2)]
    frames = [torch.stack(list(trial.inputs)) for trial in made]
    assert torch.equal(*frames) and frames[0].shape == (task.steps, 8, inputs)
    assert torch.equal(made[0].target, made[1].target)
    assert len(made[0].weights) == task.steps and sum(made[0].weights) == pytest.approx(1)
    assert frames[0].mean() > 0
    silent = Outcome(torch.tensor(1.0), torch.zeros(8, outputs))
    success = task.success(made[0], silent)
    assert ((success >= 0) & (success <= 1)).all()


def test_evidence_is_where_the_majority_of_the_cues_is() -> None:
    """Counted in the input spikes themselves. Must fail when majority and drawn side are mixed up (tried)."""
    task = EvidenceAccumulation(rate=900.0)
    trial = task.trial(64, 1e-3, torch.Generator().manual_seed(0))
    frames = torch.stack(list(trial.inputs))
    left, right = frames[:, :, :10].mean((0, 2)), frames[:, :, 10:20].mean((0, 2))
    assert torch.equal((right > left).long(), trial.target)
    assert not frames[: task.steps - task.recall, :, 20:30].any() and frames[-task.recall :, :, 20:30].any()


def test_the_stdp_window_is_the_rule(tmp_path: Path) -> None:
    """Measured by pairing = closed form. Must fail when lag has the wrong sign (tried)."""
    run = run_experiment("stdp-window", settings={"protocol.longest": 40, "protocol.every": 8}, out=tmp_path / "r")
    rows = [line.rsplit(",", 2)[-2:] for line in (run.path / "curves.csv").read_text().splitlines()[1:]]
    for lag, change in ((float(a), float(b)) for a, b in rows):
        expected = 0.0
        if lag > 0:
            expected = 0.01 * np.exp(-lag / 17)
        elif lag < 0:
            expected = -0.01 * 0.6 * np.exp(lag / 34)
        assert change == pytest.approx(expected, abs=1e-6)  # weights are float32


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "neurosbd", *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digits-mlp"], "neurosbd fit digits-mlp"),
        (["stdp-windo"], "did you mean 'stdp-window'"),
        (["stdp-window", "--rule", "bp"], "needs a local rule"),
        (["stdp-window", "--set", "protocol.longest=0"], "longest"),
        (["stdp-window", "--set", "rule.tau_plus=0"], "tau_plus must be a positive time"),
        (["xor-delayed-reward", "--set", "population.input.size=[3]"], "task needs [60]"),
        (["xor-delayed-reward", "--set", "time.dt=1e-4"], "time.dt must be 1e-3"),
        (["xor-delayed-reward", "--rule", "rmax"], "draw their spikes"),
        (["xor-delayed-reward", "--set", "population.hidden.neuron.tau_mem=0"], "tau_mem must be positive"),
        (["xor-delayed-reward", "--set", "connection.0.delay=-1"], "delay of -1 steps is shorter"),
    ],
)
def test_wrong_requests_are_one_screen_and_exit_2(arguments: list[str], message: str, tmp_path: Path) -> None:
    told = command("simulate", *arguments, "--out", str(tmp_path / "run"))
    assert told.returncode == 2, told.stderr
    assert message in told.stderr and "Traceback" not in told.stderr and told.stderr.count("\n") < 20
    assert not (tmp_path / "run").exists()


def test_an_experiment_is_not_fitted_and_says_how_to_run_it() -> None:
    with pytest.raises(UsageError, match="neurosbd simulate stdp-window"):
        from neurosbd.experiment.fit import fit

        fit("stdp-window")


def test_a_task_resumes_bit_for_bit() -> None:
    """Three batches at once, and two, then a third by a new session from the state of the first."""
    definition = load_model("xor-delayed-reward", settings=SMALL | {"task.duration": 20, "training.batches": 3})
    assert definition.task is not None
    cpu, task = torch.device("cpu"), definition.task.made()
    whole, first, second = (Session(definition, TaskLessons(definition, task), cpu) for _ in range(3))
    for _ in range(3):
        whole.step()
    for _ in range(2):
        first.step()
    second.load_state_dict(first.state_dict(), Path("memory"))
    second.step()
    for name, weight in whole.network.state_dict().items():
        assert torch.equal(weight, second.network.state_dict()[name])
