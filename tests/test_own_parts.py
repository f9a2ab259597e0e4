"""A part of a user's own that fails in a run is told by its name and place, with the way to check it; no traceback."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import neurosbd
from neurosbd.cli.main import main
from neurosbd.schema import plugins
from neurosbd.training.session import Session

PARTS = '''
"""Parts that each do one thing wrong."""
from dataclasses import dataclass
from pathlib import Path
import neurosbd
from neurosbd.neuromodulators import FixedRandom
from neurosbd.neurons import Tanh
from neurosbd.neurons.neuron import Activity
from neurosbd.plasticity import ThreeFactor
from neurosbd.rules import LocalRule

@dataclass(frozen=True)
class Fine(Tanh):
    """It does nothing wrong."""

@dataclass(frozen=True)
class Raising(Tanh):
    """It fails on a whole batch."""
    def step(self, state, drive, dt):
        if len(drive) > 1:
            drive = drive.no_such_thing
        return super().step(state, drive, dt)

@dataclass(frozen=True)
class Narrow(Tanh):
    """Its value lacks a unit."""
    def step(self, state, drive, dt):
        activity, state = super().step(state, drive, dt)
        return Activity(activity.value[:, :-1], activity.potential), state

@dataclass(frozen=True)
class Triple(Tanh):
    """It returns three things."""
    def step(self, state, drive, dt):
        return *super().step(state, drive, dt), 3

@dataclass(frozen=True)
class Later(Tanh):
    """It fails once the file beside it is there."""
    def step(self, state, drive, dt):
        if Path(__file__).with_suffix(".broken").exists():
            drive = drive.no_such_thing
        return super().step(state, drive, dt)

@dataclass(frozen=True)
class Slim(FixedRandom):
    """Its third factor lacks a unit."""
    def third_factor(self, state, receiver, broadcast):
        return super().third_factor(state, receiver, broadcast)[:, :-1]

@dataclass(frozen=True)
class Cut(ThreeFactor):
    """Its gradient lacks a synapse."""
    def step(self, state, local, dt):
        gradient, state = super().step(state, local, dt)
        return gradient and gradient._replace(weight=gradient.weight[:, :-1]), state

@dataclass(frozen=True)
class Dying(ThreeFactor):
    """It asks for what is not local."""
    def step(self, state, local, dt):
        return local.error, state

def dying() -> LocalRule:
    """A rule whose plasticity has no name of its own."""
    return LocalRule(Dying(), FixedRandom())

for kind, name, item in (
    ("neurons", "fine", Fine), ("neurons", "raising", Raising), ("neurons", "narrow", Narrow),
    ("neurons", "triple", Triple), ("neurons", "later", Later), ("neuromodulators", "slim", Slim),
    ("plasticities", "cut", Cut), ("rules", "dying", dying),
):
    neurosbd.register(kind, name, item)
'''
SMALL = ("--set", "training.epochs=1", "--set", "data.subset=20")


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "parts.py"
    path.write_text(PARTS)
    yield path
    for part in plugins.registered():
        plugins.remove(*part)
    plugins._FILES.clear()


FAILURES = [
    ("population.hidden1.neuron=raising", r"population 'hidden1': neurons/raising failed at parts\.py:21 "
     r"\(AttributeError: .*no_such_thing'\)\. Check it: python -m neurosbd\.testing neurons raising --plugin "),
    ("population.hidden2.neuron=narrow", r"population 'hidden2': neurons/narrow breaks its contract: The value has "
     r"shape \[3, 3, 2, 2\], not that of the drive, \[3, 4, 2, 2\]\. Check it: .* neurons narrow"),
    ("population.hidden1.neuron=triple", r"population 'hidden1': neurons/triple breaks its contract"),
    ("rule.neuromodulator=slim", r"population 'hidden1': neuromodulators/slim breaks its contract: The third factor "
     r"has shape \[7, 5\].*\. Check it: .* neuromodulators slim .*There is no checkpoint yet in "),
    ("rule.plasticity=cut", r"connection 'input->hidden1': plasticities/cut breaks its contract: The gradient"),
    ("rule=dying", r"connection 'input->hidden1': Dying \(plasticities\) failed at parts\.py:62 .*'error'\)\. "
     r"Check it: python -m neurosbd\.testing rules dying --plugin .*parts\.py\. There is no checkpoint"),
]  # fmt: skip


@pytest.mark.parametrize(("setting", "message"), FAILURES, ids=lambda v: v if isinstance(v, str) else "")
def test_a_part_that_fails_is_named(
    setting: str, message: str, parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Population or connection, kind and name, line of its file, how to check it: in one line.

    Must fail when only frames are looked at (tried: four of six), or only contracts (tried: two).
    """
    arguments = ["fit", "digits-mlp", "--plugin", str(parts), "--out", str(tmp_path / "run"), *SMALL, "--set", setting]
    assert main(arguments) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and re.search(message, err), err


def test_in_python_the_failure_itself_is_the_cause(parts: Path, tmp_path: Path) -> None:
    plugins.load_file(parts)
    settings = {"training.epochs": 1, "data.subset": 20, "population.hidden1.neuron": "raising"}
    with pytest.raises(neurosbd.RunError, match="neurons/raising failed") as failure:
        neurosbd.fit("digits-mlp", settings=settings, out=tmp_path / "run")
    assert isinstance(failure.value.__cause__, AttributeError)
    result = neurosbd.open_run(tmp_path / "run").result
    assert result["status"] == "failed" and "neurons/raising failed" in result["reason"]


def test_a_part_that_fails_in_a_prediction_is_named(
    parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With `predict`, in Python and on a page. Must fail when only trainings name them (tried)."""
    plugins.load_file(parts)
    settings = {"training.epochs": 1, "population.hidden.neuron": "later"}
    run = neurosbd.fit("diabetes-mlp", settings=settings, out=tmp_path / "run")
    parts.with_suffix(".broken").touch()
    said = r"population 'hidden': neurons/later failed at parts\.py:\d+ \(AttributeError: .*Check it: "
    assert main(["predict", str(run.path), "--plugin", str(parts)]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and re.search(said, err), err
    with pytest.raises(neurosbd.RunError, match=said):
        run.predict(np.zeros((2, 10)))
    outcome = neurosbd.analyse(run.path)["calibration"]
    assert outcome.failed and re.search(said, outcome.problem or "")


def test_a_mistake_of_ours_is_none_of_a_part(parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Must fail when the parts of a user's own are blamed for whatever happens (tried)."""

    def broken(session: Session, asked: object) -> None:
        raise ZeroDivisionError("ours")

    plugins.load_file(parts)
    monkeypatch.setattr(Session, "step", broken)
    settings = {"training.epochs": 1, "data.subset": 20, "population.hidden1.neuron": "fine"}
    with pytest.raises(ZeroDivisionError, match="ours"):
        neurosbd.fit("digits-mlp", settings=settings, out=tmp_path / "run")
