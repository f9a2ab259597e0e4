"""Recorded protocols: what is written is what was done to the synapses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neurosbd
from neurosbd.config.resolve import load_model
from neurosbd.errors import UsageError
from neurosbd.files import library

WINDOW = {"protocol.longest": "20 ms", "protocol.every": "5 ms", "protocol.period": "60 ms", "protocol.pairs": 2}
CURSOR = {"protocol.pretraining": 2, "protocol.recorded": 3, "protocol.session": 6, "protocol.batch": 2}


def run(name: str, out: Path, record: list[str], **settings: Any) -> neurosbd.Run:
    small = {"stdp-window": WINDOW, "bmi-cursor": CURSOR}[name]
    return neurosbd.simulate(name, settings={**small, **settings}, record=record, out=out)


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> neurosbd.Run:
    signals = ["*.spikes", "*.v", "input.rate", "*.dweight", "*.weight[every=1 batch]"]
    return run("stdp-window", tmp_path_factory.mktemp("runs") / "window", signals)


def test_the_changes_of_the_weight_are_the_stdp_window(window: neurosbd.Run) -> None:
    """A trial per lag; the recorded changes = those that the protocol measured, and the rule in closed form.

    Must fail if the weight before is taken before the network starts anew.
    """
    change = window.trace["input->output.dweight"]
    measured = [float(line.rsplit(",", 1)[1]) for line in (window.path / "curves.csv").read_text().splitlines()[1:]]
    np.testing.assert_allclose(change[:, 0], measured, atol=1e-6)
    assert (change[:, 1] == 0).all()  # the teacher stays as it is
    lag = 15  # ms; two pairings: once in each direction per period of 60 ms
    expected = 0.01 * (2 * np.exp(-lag / 17) - 0.6 * np.exp(-(60 - lag) / 34))
    row = list(range(-20, 21, 5)).index(lag)
    assert change[row, 0] == pytest.approx(expected, abs=2e-4)
    weight = window.trace["input->output.weight"]
    assert len(weight) == 1 + 9 and weight.batch[0] == -1
    np.testing.assert_allclose(weight[1:, 0], 0.25 + change[:, 0], atol=1e-6)


def test_spikes_come_at_their_lag(window: neurosbd.Run) -> None:
    """A lag is from the beginning of the step in which a spike arrives to the end of the step of the post unit's.

    Must fail if steps are counted from the beginning of the protocol, or trials overlap in time.
    """
    spikes, inputs = window.trace["output.spikes"], window.trace["input.rate"]
    assert len(spikes) == 9 * 120
    np.testing.assert_allclose(np.diff(spikes.time), 1e-3)
    for trial, lag in enumerate(range(-20, 21, 5)):
        rows = spikes.rows(batch=trial)
        assert list(np.flatnonzero(spikes[rows][:, 0, 0])) == [20 + lag, 80 + lag]
        assert list(np.flatnonzero(inputs[rows][:, 0, 0])) == [21, 81]
        assert (window.trace["output.v"][rows][:, 0, 0] > 1).sum() == 2


def test_recording_a_protocol_changes_nothing(tmp_path: Path) -> None:
    signals = ["*.spikes", "*.drive[every=3 steps]", "*.rate", "*.dweight", "*.weight[every=2 batches]"]
    with_, without = (run("stdp-window", tmp_path / str(len(asked)), asked) for asked in (signals, []))
    assert with_.result["measures"] == without.result["measures"]
    assert (with_.path / "curves.csv").read_bytes() == (without.path / "curves.csv").read_bytes()
    with_.trace.close()


@pytest.mark.parametrize("what", ["loss", "score", "*.alignment", "*.hebbian", "*.projection", "*.v[on=test]"])
def test_what_needs_a_score_or_a_test_is_refused(tmp_path: Path, what: str) -> None:
    expected = "a protocol has no test" if "test" in what else "nobody scores a protocol"
    with pytest.raises(UsageError, match=expected):
        run("stdp-window", tmp_path / "run", [what])
    assert not (tmp_path / "run").exists()


def test_every_protocol_says_how_long_it_takes(tmp_path: Path) -> None:
    """What was estimated is what was written. Must fail for a protocol that forgets an observer or a trial."""
    for name in library.names("models"):
        if load_model(name).protocol is not None:
            trace = run(name, tmp_path / name, ["*.drive", "*.dweight"]).trace
            wanted = [trace.contents.expected[series.clock] for series in trace.contents.series]
            rows = [len(trace[series.name]) for series in trace.contents.series]
            assert all(0 <= most - there <= 20 for there, most in zip(rows, wanted, strict=True)), (name, rows, wanted)
