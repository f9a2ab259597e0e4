"""Plasticity experiments: every task and protocol, their run directories, wrong input."""

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neurosbd.cli.main import main
from neurosbd.config.compatibility import check_optimizer
from neurosbd.config.resolve import describe, load_model, resolve
from neurosbd.errors import UsageError, UsageWarning
from neurosbd.experiments.simulate import simulate
from neurosbd.files import library
from neurosbd.learning.batch import BatchResult
from neurosbd.rules import RULES
from neurosbd.runs.batches import TaskBatches
from neurosbd.tasks import PROTOCOLS, TASKS
from neurosbd.tasks.evidence import EvidenceAccumulation
from neurosbd.training.session import Session

# Its rewards of a batch are an estimate, which Adam makes steps of: meant, as its header says.
MEANT = "ignore:xor-delayed-reward. rule 'rstdp' states by how much"
EXPERIMENTS = [n for n in library.names("models") if load_model(n).task or load_model(n).protocol]
QUICK: dict[str, dict[str, Any]] = {
    "stdp-window": {"protocol.longest": "20 ms", "protocol.every": "10 ms", "protocol.period": "50 ms"},
    "bmi-cursor": {"protocol.pretraining": 3, "protocol.recorded": 2, "protocol.session": 3},
}
SMALL = {"training.epochs": 1, "training.batches": 1, "training.batch_size": 4, "training.test_batches": 1}


def settings(name: str) -> dict[str, Any]:
    """The experiment in a few hundred steps."""
    if name in QUICK:
        return QUICK[name]
    kind = load_model(name).task.kind  # type: ignore[union-attr]
    short = {
        "evidence_accumulation": {
            "task.cue": "5 ms",
            "task.pause": "8 ms",
            "task.delay": "10 ms",
            "task.recall": "5 ms",
        },
        "pattern_generation": {"task.duration": "30 ms"},
        "delayed_xor": {"task.duration": "30 ms"},
    }
    return SMALL | short[kind]


def test_every_task_and_protocol_has_an_experiment() -> None:
    definitions = [load_model(name) for name in EXPERIMENTS]
    assert {d.task.kind for d in definitions if d.task} == set(TASKS)
    assert {d.protocol.kind for d in definitions if d.protocol} == set(PROTOCOLS)


@pytest.mark.filterwarnings(MEANT)
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiments_leave_measures_curves_and_a_figure(name: str, tmp_path: Path) -> None:
    run = simulate(name, settings=settings(name), out=tmp_path / "run")
    assert run.result["status"] == "finished" and run.result["measures"]
    assert all(np.isfinite(v) for v in run.result["measures"].values())
    assert (tmp_path / "run" / "figure.png").stat().st_size > 5000
    rows = (tmp_path / "run" / "curves.csv").read_text().splitlines()
    assert rows[0] == "panel,line,x,y" and len(rows) > 3
    again = simulate(name, settings=settings(name), out=tmp_path / "again")
    assert again.result["measures"] == run.result["measures"]


@pytest.mark.parametrize("dt", [1e-3, 5e-4])
@pytest.mark.parametrize("kind", list(TASKS))
def test_tasks_draw_trials_from_the_generator_alone(kind: str, dt: float) -> None:
    """Times are times: as many spikes at half the step. Must fail when ms are steps (tried)."""
    task = TASKS[kind]()
    inputs, outputs = task.sizes()
    made = [task.batch(8, dt, torch.Generator().manual_seed(3)) for _ in range(2)]
    frames = [torch.stack(list(trial.inputs)) for trial in made]
    assert torch.equal(*frames) and frames[0].shape == (task.steps(dt), 8, inputs)
    assert torch.equal(made[0].target, made[1].target)
    assert len(made[0].weights) == task.steps(dt) and sum(made[0].weights) == pytest.approx(1)
    spikes = frames[0].sum().item()
    often = torch.stack(list(task.batch(8, 1e-3, torch.Generator().manual_seed(4)).inputs)).sum().item()
    assert abs(spikes - often) < 6 * often**0.5
    silent = BatchResult(torch.tensor(1.0), torch.zeros(8, outputs))
    success = task.success(made[0], silent)
    assert ((success >= 0) & (success <= 1)).all()


def test_evidence_is_where_the_majority_of_the_cues_is() -> None:
    """Counted in the input spikes themselves. Must fail when majority and drawn side are mixed up (tried)."""
    task = EvidenceAccumulation(rate=900.0)
    trial = task.batch(64, 1e-3, torch.Generator().manual_seed(0))
    frames = torch.stack(list(trial.inputs))
    left, right = frames[:, :, :10].mean((0, 2)), frames[:, :, 10:20].mean((0, 2))
    assert torch.equal((right > left).long(), trial.target)
    assert not frames[:-150, :, 20:30].any() and frames[-150:, :, 20:30].any()


@pytest.mark.parametrize("dt", [1e-4, 5e-4, 1e-3, 2e-3])
def test_the_stdp_window_is_the_rule(dt: float, tmp_path: Path) -> None:
    """Measured by pairing = closed form in ms at every dt.

    Must fail when lag has the wrong sign, or when lags are steps (tried: both).
    """
    settings = {"protocol.longest": "40 ms", "protocol.every": "8 ms", "protocol.period": "90 ms", "time.dt": dt}
    run = simulate("stdp-window", settings=settings, out=tmp_path / "r")
    rows = [line.rsplit(",", 2)[-2:] for line in (run.path / "curves.csv").read_text().splitlines()[1:]]
    measured = [(float(a), float(b)) for a, b in rows]
    assert [lag for lag, _ in measured] == list(range(-40, 41, 8))
    for lag, change in measured:
        expected = 0.01 * np.exp(-lag / 17)
        if lag < 0:
            expected = -0.01 * 0.6 * np.exp(lag / 34)
        assert change == pytest.approx(expected, abs=1e-6)  # weights are float32


def test_a_window_beyond_the_bounds_is_cut_off_and_says_so(tmp_path: Path) -> None:
    """Twenty pairings at lags of 0 and +-4 ms would take the weight beyond 0.3 and below 0.2.

    Must fail when bounds are not in force (tried: changes of 0.16).
    """
    bounds = {"rule.plasticity.window": {"w_min": 0.2, "w_max": 0.3}, "protocol.pairs": 20, "protocol.period": "50 ms"}
    with pytest.warns(UsageWarning, match=r"cut off by its bounds, w_min = 0.2 to w_max = 0.3, at 3 of 3 lags"):
        run = simulate(
            "stdp-window", settings=bounds | {"protocol.longest": 4e-3, "protocol.every": 4e-3}, out=tmp_path / "r"
        )
    assert run.result["measures"]["largest_potentiation"] == pytest.approx(0.05, abs=1e-6)
    assert run.result["measures"]["largest_depression"] == pytest.approx(-0.05, abs=1e-6)


def test_a_post_unit_that_does_not_follow_its_teacher_is_said(tmp_path: Path) -> None:
    """Must fail for a measurement that counts pairs that were not there."""
    weak = {**QUICK["stdp-window"], "protocol.teacher": 0.9}
    with pytest.warns(UsageWarning, match=r"did not spike exactly when its teacher did, at 4 of 5 lags"):
        simulate("stdp-window", settings=weak, out=tmp_path / "r")


STATING = [name for name, make in RULES.items() if getattr(make(), "states_changes", False)]


def test_rules_that_state_changes_have_plain_sgd_unless_told_otherwise() -> None:
    """And `show` says why. Must fail when the default does not ask the rule (tried: Adam)."""
    assert STATING == ["rstdp", "stdp", "s2_stdp", "sstdp", "rstdp_readout", "wta_stdp"]
    for rule in RULES:
        bare = {"training": {}}
        resolved = resolve("digits-snn", rule, bare)
        kind = resolved.definition.training.optimizer.kind
        assert kind == ("sgd" if rule in STATING else "adam")
        if rule in STATING:
            assert ("training.optimizer.kind", "sgd", f"rule {rule}") in describe(resolved)


@pytest.mark.parametrize(
    ("optimizer", "said"),
    [
        ({"kind": "adam"}, "Adam divides it by its usual size"),
        ({"kind": "adamw", "weight_decay": 0.01}, r"weight_decay = 0.01 pulls"),
        ({"kind": "sgd", "momentum": 0.9}, r"momentum = 0.9 repeats"),
        ({"kind": "sgd", "weight_decay": 0.1}, r"weight_decay = 0.1 pulls"),
        ({"kind": "sgd", "lr": 3.0}, ""),
    ],
)
def test_an_optimizer_that_does_more_than_scale_stated_changes_is_said_once(
    optimizer: dict[str, Any], said: str, tmp_path: Path
) -> None:
    definition = load_model("stdp-window", settings={"training.optimizer": optimizer})
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        check_optimizer(definition.build())
    texts = [str(warning.message) for warning in found]
    assert len(texts) == bool(said) and all(re.search(said, text) for text in texts)
    definition = load_model("digits-snn", "rstdp", {"training.clip_norm": 1.0, "training.optimizer": {"kind": "sgd"}})
    with pytest.warns(UsageWarning, match="clip_norm shrinks all changes"):
        check_optimizer(definition.build())


def test_what_a_protocol_does_not_use_is_said(tmp_path: Path) -> None:
    with pytest.warns(UsageWarning, match=r"does not use training\.epochs, training\.clip_norm"):
        simulate(
            "stdp-window", settings={**QUICK["stdp-window"], "training.epochs": 3, "training.clip_norm": 1.0},
            out=tmp_path / "r",
        )  # fmt: skip


@pytest.mark.filterwarnings(MEANT)
@pytest.mark.parametrize("name", ["stdp-window", "xor-delayed-reward"])
def test_what_is_said_of_examples_is_not_used_where_there_are_none(name: str, tmp_path: Path) -> None:
    """Must fail when a data set that is never shown is silently taken (tried)."""
    stray = {"time.steps": 50, "data.name": "mnist", "data.subset": 3}
    with pytest.warns(
        UsageWarning, match=r"makes its own trials and does not use time\.steps, data\.name, data\.subset"
    ):
        simulate(name, settings=settings(name) | stray, out=tmp_path / "r")


TAU = "population.output.neuron.tau_mem"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digits-mlp"], "neurosbd fit digits-mlp"),
        (["stdp-windo"], "did you mean 'stdp-window'"),
        (["stdp-window", "--rule", "bp"], "sends rewards and no score, which this rule waits for"),
        (["stdp-window", "--set", "protocol.longest=0"], "longest"),
        (
            ["stdp-window", "--set", "rule.plasticity.window.tau_plus=0"],
            "tau_plus: must be a positive time in s",
        ),
        (["xor-delayed-reward", "--set", "population.input.size=[3]"], "task needs [60]"),
        (
            ["xor-delayed-reward", "--set", "time.dt=7e-4"],
            "duration = 0.1 s is no whole number of steps",
        ),
        (["xor-delayed-reward", "--set", "task.rate=2000"], "rate = 2000 Hz is more than one spike in a step"),
        (
            ["stdp-window", "--set", "protocol.every=0.5e-3"],
            "every = 0.0005 s is no whole number of steps of dt = 0.001 s",
        ),
        (["stdp-window", "--set", "protocol.start=1.5"], "is outside the bounds of the rule, w_min = -1 to w_max = 1"),
        (["stdp-window", "--set", "rule.readout='gradient'"], "set rule.readout = 'rule'"),
        (["stdp-window", "--rule", "sbd"], "sends rewards and no score"),
        (["stdp-window", "--rule", "rmax"], "neurons that draw their spikes"),
        (
            ["stdp-window", "--set", f"{TAU}='10e-3'"],
            "neuron.tau_mem: input should be a valid",
        ),
        (
            ["stdp-window", "--set", f"{TAU}=true"],
            "neuron.tau_mem: must be a number, numbers in",
        ),
        (
            ["stdp-window", "--set", f"{TAU}=['a']"],
            "neuron.tau_mem.0: input should be a valid",
        ),
        (["stdp-window", "--set", f"{TAU}={{kind='normall'}}"], "did you mean 'normal'"),
        (
            ["stdp-window", "--set", f"{TAU}={{kind='normal', mean=0.1}}"],
            "tau_mem.std: is missing",
        ),
        (["stdp-window", "--set", "population.input.size=[3]"], "from 2 inputs onto one unit"),
        (["stdp-window", "--set", "protocol.kind='conditioning'"], "protocol 'conditioning' is a free run now"),
        (["xor-delayed-reward", "--rule", "rmax"], "draw their spikes"),
        (
            ["xor-delayed-reward", "--set", "population.hidden.neuron.tau_mem=0"],
            "tau_mem: must be a positive time in s",
        ),
        (
            ["xor-delayed-reward", "--set", "connection.0.delay=-1"],
            "connection.0.delay: must be a number of steps from 0 to 100,000, a time such as '1.5 ms', or "
            "{ kind = 'uniform', low = '1 ms', high = '3 ms' }, got -1",
        ),
    ],
)
def test_wrong_requests_are_one_screen_and_exit_2(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", *arguments, "--out", str(tmp_path / "run")]) == 2
    told = capsys.readouterr().err
    assert message in told and "Traceback" not in told and told.count("\n") < 20
    assert not (tmp_path / "run").exists()


def test_an_experiment_is_not_fitted_and_says_how_to_run_it() -> None:
    with pytest.raises(UsageError, match="neurosbd simulate stdp-window"):
        from neurosbd.training.fit import fit

        fit("stdp-window")


@pytest.mark.filterwarnings(MEANT)
def test_a_task_resumes_bit_for_bit() -> None:
    """Three batches at once, and two, then a third by a new session from the state of the first."""
    definition = load_model("xor-delayed-reward", settings=SMALL | {"task.duration": "20 ms", "training.batches": 3})
    experiments = [definition.build() for _ in range(3)]
    whole, first, second = (Session(each, TaskBatches(each), torch.device("cpu")) for each in experiments)
    for _ in range(3):
        whole.step()
    for _ in range(2):
        first.step()
    second.load_state_dict(first.state_dict(), Path("memory"))
    second.step()
    for name, weight in whole.network.state_dict().items():
        assert torch.equal(weight, second.network.state_dict()[name])
