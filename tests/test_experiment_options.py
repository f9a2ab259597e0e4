"""What protocols and free runs take from [training] as a training does: schedules, checkpoints, exact bits; devices."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

import neurosbd
from neurosbd import load_model
from neurosbd.errors import UsageError, UsageWarning
from neurosbd.experiments import protocol_session
from neurosbd.experiments.protocol_session import ProtocolSession
from neurosbd.runs.loggers import Event, NullLogger
from neurosbd.tasks import trial_sequence
from tests.test_endings import CURSOR, When, hit
from tests.test_fit import same

# The spikes of the cell are those of its driver whatever the plastic weights are, so that changes of weights are
# proportional to the rate of learning.
FREE = """
time.dt = "1 ms"
simulation = {{ duration = "160 ms", report = "40 ms" }}
stimulus = [
    {{ population = "source", kind = "poisson", rate = "100 Hz" }},
    {{ population = "driver", kind = "poisson", rate = "50 Hz" }},
]
rule = {{ kind = "stdp", plasticity = {{ window = {{ a_plus = 1e-3, a_minus = 2e-3 }} }} }}
connection = [
    {{ pre = "driver", post = "cell", kind = "dense", weight = {{ kind = "constant", value = 5.0 }}, plastic = false }},
    {{ pre = "source", post = "cell", kind = "dense", weight = {{ kind = "constant", value = 0.0 }}{more} }},
]
[population]
source = {{ size = [20], neuron = "relay" }}
driver = {{ size = [3], neuron = "relay" }}
cell = {{ size = [3], neuron = {{ kind = "lif", tau_mem = "2 ms", reset = "to_value" }} }}
"""
SPARSE = ', sparsity = 0.3, storage = "sparse"'


def _model(folder: Path, more: str = "") -> Path:
    path = folder / "own.toml"
    path.write_text(FREE.format(more=more))
    return path


@pytest.mark.parametrize("more", ["", SPARSE], ids=["by gradients", "at the spikes"])
def test_rates_of_a_free_run_fall_from_report_to_report(more: str, tmp_path: Path) -> None:
    """With gamma a report's change of the mean weight is gamma^k of that at a constant rate, to float32.

    Must fail when updates at the spikes keep the rate that they began with, or when an update is an epoch (tried).
    """
    path, gamma = _model(tmp_path, more), 0.5
    constant = neurosbd.simulate(path, out=tmp_path / "constant")
    falling = {"training.schedule": {"kind": "exponential", "gamma": gamma}}
    moved = neurosbd.simulate(path, settings=falling, out=tmp_path / "falling")
    means = [[0.0, *(line["source->cell.weight"] for line in run.metrics)] for run in (constant, moved)]
    usual, scaled = ([b - a for a, b in pairwise(each)] for each in means)
    assert len(usual) == 4 and all(abs(change) > 1e-5 for change in usual)
    assert scaled == pytest.approx([gamma**k * change for k, change in enumerate(usual)], rel=2e-3)
    assert "schedule" in moved.checkpoint() and "schedule" not in constant.checkpoint()


@pytest.mark.parametrize("more", ["", SPARSE], ids=["by gradients", "at the spikes"])
def test_a_free_run_with_moving_rates_resumes_bit_for_bit(more: str, tmp_path: Path) -> None:
    """Must fail when its schedule starts anew (tried)."""
    path, settings = _model(tmp_path, more), {"training.schedule": "one_cycle"}
    neurosbd.simulate(path, settings=settings, out=tmp_path / "whole")
    stopped = neurosbd.simulate(path, settings=settings, out=tmp_path / "parts", loggers=[When(2, hit)])
    assert stopped.result["status"] == "interrupted"
    neurosbd.simulate(path, settings=settings, out=tmp_path / "parts", resume=True)
    assert same(tmp_path / "whole", tmp_path / "parts")


def test_rates_of_a_protocol_move_from_trial_to_trial_of_a_stage(tmp_path: Path) -> None:
    """With a rate of 0 from the second trial of the session on, the weights are those of a session of one.

    Must fail when no trial counts (tried).
    """
    settings = CURSOR | {"protocol.recorded": 1}
    one = neurosbd.simulate("bmi-cursor", settings=settings | {"protocol.session": 1}, out=tmp_path / "one")
    stopping = {"training.schedule": {"kind": "steps", "epochs": [1], "gamma": 0.0}}
    many = neurosbd.simulate("bmi-cursor", settings=settings | stopping, out=tmp_path / "many")
    weights = [run.checkpoint()["network"]["weights.hidden->hidden"] for run in (one, many)]
    assert torch.equal(*weights)


def test_a_protocol_with_moving_rates_resumes_bit_for_bit(tmp_path: Path) -> None:
    """Stopped within the session. Must fail when its schedule starts anew (tried)."""
    settings = CURSOR | {"training.schedule": "cosine", "protocol.session": 6}
    neurosbd.simulate("bmi-cursor", settings=settings, out=tmp_path / "whole")
    stopped = neurosbd.simulate("bmi-cursor", settings=settings, out=tmp_path / "parts", loggers=[When(7, hit)])
    assert stopped.result["status"] == "interrupted" and "schedule" in stopped.checkpoint()
    neurosbd.simulate("bmi-cursor", settings=settings, out=tmp_path / "parts", resume=True)
    assert same(tmp_path / "whole", tmp_path / "parts")


def test_a_schedule_that_would_bend_a_measurement_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"training.schedule = 'cosine' moves .* every trial of protocol 'pairing' begin"
    ):
        neurosbd.simulate("stdp-window", settings={"training.schedule": "cosine"}, out=tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_a_schedule_of_a_run_in_which_nothing_learns_is_said(tmp_path: Path) -> None:
    path = _model(tmp_path)
    settings = {"connection.1.plastic": False, "training.schedule": "cosine"}
    with pytest.warns(UsageWarning, match=r"a free run in which nothing learns does not use training\.schedule"):
        neurosbd.simulate(path, settings=settings, out=tmp_path / "run")


class Places(NullLogger):
    """Where checkpoints were written, and whether torch kept to exact operations."""

    def __init__(self) -> None:
        self.number: list[int] = []
        self.exact: set[bool] = set()

    def on_epoch(self, event: Event) -> None:
        self.exact.add(torch.are_deterministic_algorithms_enabled())

    def on_checkpoint(self, event: Event) -> None:
        self.number.append(torch.load(event["path"], weights_only=True)["number"])


def test_checkpoints_come_after_so_many_trials_or_updates_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Besides those of the reports. Must fail when `training.checkpoint_every` is not looked at (tried)."""
    monkeypatch.setattr(protocol_session, "_REPORTS", 2)
    every = {"training.checkpoint_every": 2}
    neurosbd.simulate("bmi-cursor", settings=CURSOR | every, out=tmp_path / "p", loggers=[places := Places()])
    assert places.number == [2, 3, 4, 5, 6, 8, 10]  # stages of 3, 2, 3 and 2 trials end with a report
    every = {"training.checkpoint_every": 15, "simulation.update": "2 ms"}
    neurosbd.simulate(_model(tmp_path), settings=every, out=tmp_path / "f", loggers=[places := Places()])
    assert places.number == [30, 40, 60, 80, 90, 120, 150, 160]


@pytest.mark.parametrize("experiment", ["protocol", "free run"])
def test_deterministic_holds_for_the_run_and_no_longer(experiment: str, tmp_path: Path) -> None:
    """Must fail when `training.deterministic` is only said to be unused, as it was (tried)."""
    model, settings = {"protocol": ("bmi-cursor", CURSOR), "free run": (_model(tmp_path), {})}[experiment]
    exact = settings | {"training.deterministic": True}
    neurosbd.simulate(model, settings=exact, out=tmp_path / "exact", loggers=[places := Places()])
    assert places.exact == {True} and not torch.are_deterministic_algorithms_enabled()


WINDOW: dict[str, Any] = {"protocol.longest": "10 ms", "protocol.every": "10 ms", "protocol.period": "30 ms"}
ALIGNED = CURSOR | {"protocol.overlap": 1.0}


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """A device that is not the CPU: one of shapes alone, on which the fused kernels of optimizers do not run."""
    monkeypatch.setattr(trial_sequence, "apply", lambda optimizer: None)
    yield torch.device("meta")


@pytest.mark.parametrize(
    ("model", "rule", "settings"),
    [
        ("stdp-window", None, WINDOW),
        ("bmi-cursor", None, ALIGNED | {"rule.neuromodulator.overlap": 1.0}),
        ("bmi-cursor", "reinforce", ALIGNED | {"protocol.session": 3}),
    ],
)
def test_a_protocol_lives_on_its_device(
    model: str, rule: str | None, settings: dict[str, Any], elsewhere: torch.device
) -> None:
    """Every operation of its trials finds all it needs there, and the shapes fit.

    Must fail when the network stays where it was drawn, or targets of a movement are left on the CPU (tried).
    """
    experiment = load_model(model, rule, settings | {"record.signals": []}).build()
    assert experiment.protocol is not None
    session = ProtocolSession(experiment, experiment.protocol, elsewhere)
    assert {value.device.type for value in experiment.network.state_dict().values()} == {"meta"}
    protocol, trial, judged = experiment.protocol, experiment.protocol.trial, session.sequence.loss is not None

    def unread(*given: Any) -> Any:
        shown = trial(*given)
        there = (shown.batch.target, shown.batch.task) if judged else ()
        assert all(value is not None and value.device.type == "meta" for value in there)
        return shown._replace(read=lambda: (0.0,) * len(protocol.measured))

    object.__setattr__(protocol, "trial", unread)
    while not session.over():
        session.advance()


def test_a_device_that_is_not_there_is_refused_for_protocols(tmp_path: Path) -> None:
    """And 'auto' is the CPU."""
    if torch.cuda.is_available():
        pytest.skip("a CUDA device is there")
    with pytest.raises(UsageError, match=r"device 'cuda'.* sees no CUDA device"):
        neurosbd.simulate("stdp-window", device="cuda", settings=WINDOW, out=tmp_path / "run")
    assert neurosbd.simulate("stdp-window", settings=WINDOW, out=tmp_path / "run").config["device_type"] == "cpu"
