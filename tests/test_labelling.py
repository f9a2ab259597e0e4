"""Digits without labels (Diehl, Cook 2015): nearest triplets, norms from time to time, labels of units, answers."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import neurosbd
from neurosbd.config.definition import Definition
from neurosbd.errors import UsageError, UsageWarning
from neurosbd.experiments.free_session import FreeSession
from neurosbd.experiments.labelling import answers_of, labels_of
from neurosbd.neurons.alif import ALIF, ALIFState
from neurosbd.stimuli.dataset import Items, SideBySide

SMALL = {
    "stimulus.0.data": "digits", "population.pixels.size": [64], "population.exc.size": [8], "population.inh.size": [8],
    "connection.0.constraints.0.target": 20.0, "stimulus.0.rate": "250 Hz", "stimulus.0.duration": "100 ms",
    "stimulus.0.pause": "50 ms", "simulation.normalise": "150 ms", "simulation.duration": "450 ms",
    "simulation.report": "150 ms", "labelling.labelled": 120, "labelling.tested": 60,
}  # fmt: skip


def small(changes: dict[str, Any]) -> Definition:
    """The shipped model with digits that ship, too."""
    return neurosbd.load_model("diehl-cook", settings=SMALL | changes)


def published(pre: list[int], post: list[int]) -> float:
    """Weight after spikes at these ms as the published code moves it; a spike in a ms comes at its end."""
    w, last, r, o1, o2 = 0.5, 0, 0.0, 0.0, 0.0
    for time, side in sorted([(t, 0) for t in pre] + [(t + 1, 1) for t in post]):
        gone, last = time - last, time
        r, o1, o2 = r * math.exp(-gone / 20), o1 * math.exp(-gone / 20), o2 * math.exp(-gone / 40)
        if side:
            w, o1, o2 = w + 0.01 * r * o2, 1.0, 1.0
        else:
            w, r = w - 1e-4 * o1, 1.0
    return w


PAIR = """
simulation = { duration = "100 ms" }
stimulus = [
    { population = "pre", kind = "spikes", times = PRE, units = UNITS },
    { population = "post", kind = "spikes", times = POST, units = UNITS, amplitude = 2.0 },
]
[[connection]]
pre = "pre"
post = "post"
kind = "dense"
weight = { kind = "constant", value = 0.5 }
synapse = { kind = "exponential", tau = "0.01 ms" }
plasticity = PLASTICITY
[population]
pre = { size = [1], neuron = "relay" }
post = { size = [1], neuron = { kind = "if", reset = "to_value" } }
"""


def test_nearest_triplets_are_those_of_the_published_code(tmp_path: Path) -> None:
    """Bursts of both sides. Must fail when the traces of all spikes add up (tried: pairing = 'all_to_all')."""
    pre, post = [3, 8, 20, 21, 40, 58, 60], [5, 9, 14, 30, 41, 44, 70]
    own = small({}).connection[0].plasticity
    assert own is not None
    path, table = tmp_path / "pair.toml", own.model_dump()
    words = ", ".join(f"{key} = {value!r}" for key, value in table.items())
    text = PAIR.replace("PLASTICITY", f"{{ {words} }}").replace("UNITS", str([0] * 7))
    for name, times in (("PRE", pre), ("POST", post)):
        text = text.replace(name, str([t / 1000 for t in times]))
    path.write_text(text)
    run = neurosbd.simulate(path, out=tmp_path / "run", settings={"record.signals": ["post.spikes"]})
    assert np.flatnonzero(run.trace["post.spikes"][:]).tolist() == post
    assert run.result["measures"]["pre->post.weight"] == pytest.approx(published(pre, post), abs=1e-7)


def test_norms_are_restored_at_their_times_alone() -> None:
    """Between them triplets move sums of weights away. Must fail when norms are restored at every update (tried)."""
    session = FreeSession(small({}).build(), torch.device("cpu"))
    weight = session.network.weights["pixels->exc"]
    geometry = session.network.connections["pixels->exc"].geometry
    sums: dict[int, torch.Tensor] = {}
    while not session.over():
        session.advance()
        sums[session.step] = geometry.spread(weight.detach()).sum(1)  # type: ignore[attr-defined]
    off = {step: float((each - 20).abs().max()) for step, each in sums.items()}
    assert max(off[150], off[300], off[450]) < 1e-4 and max(off.values()) > 1e-2


def test_steps_that_are_taken_together_change_no_bit() -> None:
    """Must fail when a block of steps is taken with the weights at its beginning (tried)."""
    found = []
    for together in (True, False):
        session = FreeSession(small({}).build(), torch.device("cpu"))
        session._direct_updates = session._direct_updates if together else {}
        while not session.over():
            session.advance()
        frame = session.continuation.frame
        assert frame is not None
        found.append([*session.network.weights.values(), *frame.state.neurons["exc"][:2]])
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-6)


def test_a_label_is_the_class_of_most_spikes_and_an_answer_the_class_of_the_most_active_units() -> None:
    """By hand. Must fail when sums over unequally many items, or units, are compared in place of means (tried)."""
    counts = np.array([[2, 0, 0, 0], [2, 0, 1, 0], [2, 1, 0, 0], [3, 4, 0, 0]])
    labels = labels_of(counts, np.array([5, 5, 5, 7]))
    assert labels.tolist() == [7, 7, 5, -1]
    counts = np.array([[3, 0, 2, 9], [4, 1, 2, 0], [0, 0, 0, 5]])
    assert answers_of(counts, labels).tolist() == [5, 7, -1]
    assert answers_of(counts, np.full(4, -1)).tolist() == [-1, -1, -1]


def test_a_settled_threshold_stays() -> None:
    """Spikes are those of a LIF with that threshold. Must fail when a spike raises it (tried)."""
    neuron = ALIF(beta=0.5, tau_adapt=10.0, reset="to_value")
    drive = torch.full((1, 3), 0.3)
    state = ALIFState(torch.zeros(1, 3), torch.tensor([[0.0, 1.0, 4.0]]), torch.zeros(1, 3), None)
    settled = neuron.settled(state)
    now, count = settled.init(drive), torch.zeros(1, 3)
    for _ in range(40):
        activity, now = settled.step(now, drive, 1e-3)
        count += activity.value
    v, steps = 0.0, {}
    for n in range(1, 20):
        v = v * math.exp(-1 / 20) + 0.3
        for threshold in (1.0, 1.5, 3.0):
            steps.setdefault(threshold, n) if v > threshold else None
    assert count.flatten().tolist() == [40 // steps[threshold] for threshold in (1.0, 1.5, 3.0)]


def test_every_example_is_shown_an_item_of_its_own() -> None:
    """Must fail when all examples see the first one."""
    items = Items(data="digits", shown_as="current")
    shown = SideBySide(items, np.array([3, 70]))
    like = torch.zeros(2, 64)
    drive, _ = shown.block(shown.init(like, 1e-3, torch.Generator()), like, 4, 1e-3)
    expected = torch.from_numpy(items.loaded().level(np.array([3, 70])))
    assert torch.equal(drive, expected.expand(4, 2, 64))


def test_a_run_says_its_accuracy_again_and_again(tmp_path: Path) -> None:
    """And its weights and thresholds stay. Must fail when labelling draws from what the run goes on with."""
    found = [neurosbd.simulate("diehl-cook", out=tmp_path / name, settings=SMALL) for name in "ab"]
    one, other = (run.result["measures"] for run in found)
    assert one == other and 0 <= one["test_accuracy"] <= 1
    session = FreeSession(small({}).build(), torch.device("cpu"))
    while not session.over():
        session.advance()
    before = session.state_dict()
    session.findings([{"time": 1.0}])
    after = session.state_dict()
    assert str(before["frame"]) == str(after["frame"])
    neuron = session.network.populations["exc"].neuron
    assert isinstance(neuron, ALIF) and neuron.beta == 5e-5


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"labelling.population": "exz"}, "no population 'exz' to label; did you mean 'exc'"),
        ({"labelling.population": "pixels"}, "at another population than 'pixels'"),
        ({"labelling.tested": 10**6}, "labelling.tested = 1,000,000, but the test split of 'digits' has"),
        ({"stimulus.0.data": "no-such-set"}, "no-such-set"),
        ({"population.pixels.size": [63]}, "an item of 'digits' has 64 values, but the population has 63 units"),
        ({"simulation.normalise": "0.3 ms"}, "normalise = 0.0003 s is no whole number of steps"),
        ({"connection.0.constraints": []}, "simulation.normalise says how often norms are restored, but no connection"),
    ],
)
def test_what_cannot_be_shown_or_labelled_is_refused(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        neurosbd.simulate("diehl-cook", out=tmp_path / "run", settings=SMALL | settings)
    assert not (tmp_path / "run").exists()


def test_a_run_that_ends_within_an_item_says_so() -> None:
    late = {"simulation.duration": "200 ms", "simulation.report": "200 ms"}
    with pytest.warns(UsageWarning, match=r"stimulus 0 at 'pixels' ends within an item, of which 0.05 s are shown"):
        FreeSession(small(late).build(), torch.device("cpu"))
