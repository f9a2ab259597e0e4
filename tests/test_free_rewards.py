"""Rewards of free runs: what earns them, when they arrive, and what is learned from them."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import neurosbd
from neurosbd.errors import UsageError, UsageWarning
from neurosbd.experiments.free_session import FreeSession
from neurosbd.rewards import Coincidence, Delivery, Reinforcement, SpikeCount, Times

SIZES = {"pre": (2,), "post": (1,)}


def _levels(given: Reinforcement, spikes: dict[str, list[int]], steps: int, dt: float = 1e-3) -> list[float]:
    """The reward of every step, where unit 0 of populations spikes at some of them."""
    delivery = Delivery([given], SIZES, torch.zeros(()), 1, dt, 0)
    found = []
    for t in range(steps):
        activity = {name: torch.zeros(1, *size) for name, size in SIZES.items()}
        for name, at in spikes.items():
            activity[name][0, 0] = float(t in at)
        found.append(delivery.after(activity).item())
    return found


@pytest.mark.parametrize("dt", [1e-3, 2.5e-4])
def test_a_coincidence_earns_within_its_window_at_every_dt(dt: float) -> None:
    """Lags of 1 to 9 ms earn a reward, 0 and 10 do not. Must fail when the window is steps (tried)."""
    given = Reinforcement(Coincidence("pre", "post", window="10 ms"))  # type: ignore[arg-type]
    for lag, earned in ((0, 0.0), (1, 1.0), (9, 1.0), (10, 0.0)):
        apart = round(lag * 1e-3 / dt)
        assert _levels(given, {"pre": [0], "post": [apart]}, apart + 1, dt)[-1] == earned, lag
    twice = _levels(given, {"pre": [0], "post": [2, 4]}, 6)
    assert twice == [0, 0, 1, 0, 0, 0]  # once per pre spike


def test_rewards_arrive_late_and_fade() -> None:
    """5 ms after their time, and with exp(-t / tau) from then on. Must fail when the delay is one step less (tried)."""
    given = Reinforcement(Times((2e-3, 4e-3, 4e-3)), amplitude=2.0, delay=5e-3, tau=10e-3)
    a = math.exp(-0.1)
    expected, level = [], 0.0
    for t in range(20):
        level = level * a + {7: 2.0, 9: 4.0}.get(t, 0.0)
        expected.append(level)
    assert _levels(given, {}, 20) == pytest.approx(expected, rel=1e-6)
    within = Reinforcement(Times((2e-3, 4e-3)), start=3e-3, stop=10e-3)
    assert _levels(within, {}, 6) == [0, 0, 0, 0, 1, 0]


def test_delays_are_drawn_between_the_two_and_none_is_lost() -> None:
    """Must fail when two rewards that arrive at once are one (tried: index_put_ without accumulate)."""
    given = Reinforcement(SpikeCount("post"), delay=10e-3, longest=30e-3)
    for seed in (0, 1):
        delivery = Delivery([given], SIZES, torch.zeros(()), 50, 1e-3, seed)
        arrived = []
        for t in range(60):
            spikes = torch.full((50, 1), float(t < 20))
            arrived.append(delivery.after({"pre": torch.zeros(50, 2), "post": spikes}))
        total = torch.stack(arrived)
        assert total.sum() == 20 * 50 and not total[:10].any() and not total[50:].any()
        assert len(set(total.argmax(0).tolist())) > 5


def test_a_reward_after_the_end_is_said_and_one_too_late_to_wait_for_refused() -> None:
    given = Reinforcement(Times((0.1, 7.0)))
    with pytest.warns(UsageWarning, match="reward 0: 1 of 2 times, up to 7 s, come after the end of the run at 1 s"):
        Delivery([given], SIZES, torch.zeros(()), 1, 1e-3, 0).warn_of_late(1000)
    with pytest.raises(UsageError, match=r"reward 0: 1e\+308 s are inf steps"):
        Delivery([Reinforcement(Times((0.1,)), delay=1e308)], SIZES, torch.zeros(()), 1, 1e-3, 0)


def test_a_count_of_spikes_earns_once_and_begins_anew() -> None:
    given = Reinforcement(SpikeCount("post", count=3, window="5 ms"))  # type: ignore[arg-type]
    assert _levels(given, {"post": [0, 3, 4, 5, 6, 7, 20, 23, 26]}, 30) == [float(t in (4, 7)) for t in range(30)]


HEAD = """
simulation = {{ duration = "100 ms", report = "20 ms", examples = 3{more} }}
stimulus = [{{ population = "source", kind = "poisson", rate = "100 Hz" }}]
reward = [{{ kind = "coincidence", pre = "source", post = "cell", delay = "5 ms", longest = "20 ms", tau = "10 ms" }}]
rule = {{ kind = "rstdp", neuromodulator = {{ baseline = 0.0 }}, plasticity = {{ tau_e = "50 ms" }} }}
training = {{ optimizer = {{ kind = "sgd", lr = 0.01 }} }}
record = {{ signals = ["*.spikes", "cell.third_factor", "source->cell.weight", "source->cell.dweight"] }}
connection = [{{ pre = "source", post = "cell", kind = "dense", weight = {{ kind = "constant", value = 0.25 }} }}]
[population]
source = {{ size = [20], neuron = "relay" }}
cell = {{ size = [2], neuron = {{ kind = "lif", tau_mem = "20 ms" }} }}
"""


def _model(folder: Path, more: str = "") -> Path:
    path = folder / "own.toml"
    path.write_text(HEAD.format(more=more))
    return path


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_rewarded_run_says_its_rewards_and_goes_on_bit_for_bit(tmp_path: Path) -> None:
    """Stopped within a report. Must fail when rewards on their way, or what waits, begin anew (tried, both)."""
    path = _model(tmp_path, ', update = "2 ms"')
    whole = neurosbd.simulate(path, out=tmp_path / "whole")
    factor = whole.trace["cell.third_factor"][:]
    rewards = [line["reward"] for line in whole.metrics]
    assert max(rewards) > 0 and not np.allclose(whole.trace["source->cell.weight"][:][-1], 0.25)
    assert -3 * factor.reshape(5, -1).mean(1) == pytest.approx(rewards, rel=1e-5)  # -R / B, of all examples and units

    one = FreeSession(neurosbd.load_model(path).build(), torch.device("cpu"))
    one.recorder = None
    while one.step < 34:
        one.advance()
    torch.save(one.state_dict(), tmp_path / "cut.pt")
    two = FreeSession(neurosbd.load_model(path).build(), torch.device("cpu"))
    two.recorder = None
    two.load_state_dict(torch.load(tmp_path / "cut.pt", weights_only=True), Path("cut.pt"))
    while not two.over():
        two.advance()
    for name, value in whole.checkpoint()["network"].items():
        assert torch.equal(value, two.network.state_dict()[name]), name


def test_the_same_in_python(tmp_path: Path) -> None:
    """With the weights of the file, bit for bit."""
    relay, lif = neurosbd.neurons["relay"], neurosbd.neurons["lif"]
    populations = [neurosbd.Population("source", (20,), relay()), neurosbd.Population("cell", (2,), lif(tau_mem=20e-3))]
    dense = neurosbd.connections["dense"](weight=neurosbd.initialisers["constant"](0.25))
    network = neurosbd.Network(
        populations, [neurosbd.Connection("source", "cell", dense)], torch.Generator().manual_seed(0)
    )
    stimuli = [neurosbd.Stimulation("source", neurosbd.stimuli["poisson"](rate=100.0))]
    earned = neurosbd.rewards["coincidence"](pre="source", post="cell")
    rewards = [neurosbd.Reinforcement(earned, delay=5e-3, longest=20e-3, tau=10e-3)]
    rule = {"kind": "rstdp", "neuromodulator": {"baseline": 0.0}, "plasticity": {"tau_e": "50 ms"}}
    run = neurosbd.run(
        network, "100 ms", stimuli, rule, rewards=rewards, examples=3, report="20 ms", out=tmp_path / "python",
        settings={"training.optimizer.lr": 0.01},
    )  # fmt: skip
    there = neurosbd.simulate(_model(tmp_path), out=tmp_path / "toml")
    assert torch.equal(run.network().weights["source->cell"], there.network().weights["source->cell"])
    with pytest.raises(UsageError, match=r"rewards\[0\] must be a neurosbd.Reinforcement"):
        neurosbd.run(network, "100 ms", stimuli, rule, rewards=[earned])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"reward": []}, r"rule 'rstdp' waits for rewards, which nothing gives; add \[\[reward\]\]"),
        ({"rule": "stdp"}, "rule 'stdp' hears no rewards; set rule = 'rstdp'"),
        ({"connection.0.plastic": False}, "no connection is plastic, and a network that does not learn hears no"),
        ({"rule.neuromodulator.channels": 2}, r"channels = 2, but \[\[reward\]\] gives one"),
        ({"reward.0.pre": "sauce"}, "reward 0: there is no population 'sauce'; did you mean 'source'"),
        ({"reward.0.pre_unit": 20}, r"unit 20 of 'source' is not there; it has 20, 0\.\.19"),
        ({"reward.0.window": "2.5 ms"}, "coincidence.window = 0.0025 s is no whole number of steps"),
        ({"reward.0.window": "1 ms"}, "lags of 0 earn nothing; set it to at least 0.002 s"),
        ({"reward.0.longest": "1 ms"}, "a reward needs delay <= longest, got delay = 0.005 s and longest = 0.001 s"),
        ({"reward.0.delay": "10 Hz"}, "reward.0.delay: must be a time"),
        ({"reward.0.kind": "coincidense"}, "there is no 'coincidense'; did you mean 'coincidence'"),
        ({"reward.0": {"kind": "poisson", "rate": "2 kHz"}}, "more than one spike in a step"),
    ],
)
def test_rewards_that_cannot_be_are_refused(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        neurosbd.simulate(_model(tmp_path), out=tmp_path / "run", settings=settings)
    assert not (tmp_path / "run").exists()


def test_an_expectation_that_follows_the_reward_is_said(tmp_path: Path) -> None:
    with pytest.warns(UsageWarning, match="expects what the rewards of the last 0.01 s were"):
        neurosbd.simulate(_model(tmp_path), settings={"rule.neuromodulator.baseline": 0.1})
    stray = tmp_path / "stray.toml"
    stray.write_text("reward = [{ kind = 'times' }]\npopulation = { a = { size = [1] } }")
    with pytest.raises(UsageError, match=r"\[\[reward\]\] is for a free run; add \[simulation\]"):
        neurosbd.load_model(stray)
