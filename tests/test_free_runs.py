"""Free runs: a network by itself under stimuli, its weights moving meanwhile, stopped and taken up at any update."""

import math
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes

import neurosbd
from neurosbd import load_model
from neurosbd.errors import UsageError, UsageWarning
from neurosbd.experiments.free_session import FreeSession
from neurosbd.plasticity import Window
from neurosbd.report.analyses import chosen, run_analysis
from neurosbd.report.checked_run import with_trace
from neurosbd.report.run_summary import how_it_went, what_ran
from neurosbd.runs.loggers import Event, NullLogger
from neurosbd.seeds import generator
from neurosbd.stimuli import Current

HEAD = """
simulation = {{ duration = "{duration}", report = "20 ms"{more} }}
stimulus = [
    {{ population = "source", kind = "poisson", rate = "100 Hz" }},
    {{ population = "exc", kind = "noise_current", mean = 0.06, std = 0.1, tau = "5 ms" }},
]
rule = {{ kind = "stdp", plasticity = {{ window = {{ a_plus = 0.01, a_minus = 0.011, w_min = 0.0, w_max = 0.2 }} }} }}
record = {{ signals = ["*.spikes", "exc.v", "exc->exc.weight", "exc->exc.dweight"] }}
"""
NETWORK = """
connection = [
    { pre = "source", post = "exc", kind = "dense", weight = { kind = "constant", value = 0.125 }, plastic = false },
    { pre = "exc", post = "exc", kind = "dense", sparsity = 0.5, weight = { kind = "constant", value = 0.0625 } },
]
[population]
source = { size = [6], neuron = "relay" }
exc = { size = [8], neuron = { kind = "lif", tau_mem = "20 ms", refractory = "3 ms" } }
"""


def _model(folder: Path, duration: str = "100 ms", more: str = "", head: str = HEAD, network: str = NETWORK) -> Path:
    path = folder / "own.toml"
    path.write_text(head.format(duration=duration, more=more) + network)
    return path


def _same(one: neurosbd.Run, other: neurosbd.Run) -> None:
    """Weights and everything that was recorded, bit for bit."""
    for name, value in one.checkpoint()["network"].items():
        assert torch.equal(value, other.checkpoint()["network"][name]), name
    assert one.trace.names == other.trace.names
    for name in one.trace.names:
        a, b = one.trace[name], other.trace[name]
        assert np.array_equal(a[:], b[:], equal_nan=a[:].dtype.kind == "f"), name
        assert np.array_equal(a.time, b.time), name
    drop = [{k: v for k, v in line.items() if k != "seconds"} for line in one.metrics]
    assert drop == [{k: v for k, v in line.items() if k != "seconds"} for line in other.metrics]


def test_a_run_has_its_spikes_weights_metrics_and_figure(tmp_path: Path) -> None:
    run = neurosbd.simulate(_model(tmp_path), out=tmp_path / "run")
    assert run.result["status"] == "finished" and (run.path / "figure.png").is_file()
    assert [line["time"] for line in run.metrics] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1])
    spikes = run.trace["exc.spikes"]
    assert spikes.shape == (100, 1, 8) and spikes.time[:3] == pytest.approx([0, 1e-3, 2e-3])
    rates = [spikes[20 * n : 20 * n + 20].mean() / 1e-3 for n in range(5)]
    assert [line["exc.rate"] for line in run.metrics] == pytest.approx(rates) and max(rates) > 0
    weight, change = run.trace["exc->exc.weight"][:], run.trace["exc->exc.dweight"][:]
    assert len(weight) == 6 and np.allclose(np.diff(weight, axis=0), change, atol=1e-7) and change.any()
    assert set(run.result["measures"]) == {"source.rate", "exc.rate", "exc->exc.weight"}
    network = run.network()
    assert torch.equal(network.weights["exc->exc"].flatten(), torch.from_numpy(weight[-1]))
    with pytest.raises(UsageError, match="was not trained on a data set"):
        run.predict(np.zeros((1, 6)))


def test_a_stop_at_any_update_changes_nothing(tmp_path: Path) -> None:
    """Also within a report, of which the change of the weights is recorded. Must fail when the states of stimuli, the
    traces or the frame begin anew (tried, each)."""
    path, states = _model(tmp_path, more=', update = "2 ms"'), {}

    def session(name: str) -> FreeSession:
        made = FreeSession(load_model(path).build(), torch.device("cpu"))
        if name in states:
            made.load_state_dict(states[name], Path(name))
        assert made.recorder is not None
        made.recorder.start(tmp_path / f"{name}.h5", "{}", "")
        return made

    whole = session("whole")
    while not whole.over():
        whole.advance()
    one = session("cut")
    while one.step < 74:
        one.advance()
    torch.save(one.state_dict(), tmp_path / "cut.pt")
    assert one.recorder is not None and whole.recorder is not None
    one.recorder.writer.close(False, 1e9)  # type: ignore[union-attr]
    states["cut"] = torch.load(tmp_path / "cut.pt", weights_only=True)
    two = session("cut")
    while not two.over():
        two.advance()
    there, here = whole.state_of_parts(), two.state_of_parts()
    for part in ("frame", "traces", "stimuli", "sums", "at_report"):
        assert str(there[part]) == str(here[part]), part
    assert all(torch.equal(value, here["network"][name]) for name, value in there["network"].items())
    assert two.recorder is not None
    for a, b in zip(whole.recorder.gatherings, two.recorder.gatherings, strict=True):
        assert str(a.state_dict()) == str(b.state_dict())


KILL = """
import os, signal, sys, neurosbd
from neurosbd.runs.loggers import NullLogger

class Kill(NullLogger):
    def on_checkpoint(self, event):
        if event["epoch"] == 3:
            os.kill(os.getpid(), signal.SIGKILL)

neurosbd.simulate(sys.argv[1], out=sys.argv[2], loggers=[Kill()])
"""


def test_a_killed_run_is_resumed_bit_for_bit(tmp_path: Path) -> None:
    """Weights, spikes, potentials, metrics. Must fail when a report is begun anew within its checkpoint (tried)."""
    path, whole = _model(tmp_path), neurosbd.simulate(_model(tmp_path), out=tmp_path / "whole")
    done = subprocess.run([sys.executable, "-c", KILL, str(path), str(tmp_path / "cut")], timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL
    assert neurosbd.open_run(tmp_path / "cut").result["status"] == "killed"
    resumed = neurosbd.simulate(path, out=tmp_path / "cut", resume=True)
    _same(whole, resumed)
    _same(whole, neurosbd.simulate(path, out=tmp_path / "cut", resume=True))  # nothing is left to do
    with pytest.raises(UsageError, match="of another model or recipe; it differs in stimulus"):
        neurosbd.simulate(path, out=tmp_path / "cut", resume=True, settings={"stimulus.0.rate": "90 Hz"})


def test_blocks_of_any_length_give_the_same(tmp_path: Path) -> None:
    """Spikes exactly, weights but for the order of their sums."""
    path, runs = _model(tmp_path, more=', update = "10 ms"'), []
    for block in (1, 5, 10):
        runs.append(neurosbd.simulate(path, out=tmp_path / str(block), settings={"time.block": block}))
    for run in runs[1:]:
        assert np.array_equal(run.trace["exc.spikes"][:], runs[0].trace["exc.spikes"][:])
        assert np.allclose(run.trace["exc->exc.weight"][:], runs[0].trace["exc->exc.weight"][:], atol=1e-6)


PAIR = """
simulation = {{ duration = "{duration}"{more} }}
stimulus = [
    {{ population = "pre", kind = "spikes", times = ["10 ms", "60 ms"], units = [0, 0] }},
    {{ population = "post", kind = "spikes", times = ["15 ms", "58 ms"], units = [0, 0], amplitude = 2.0 }},
]
rule = {{ kind = "stdp", plasticity = {{ window = {{ a_plus = 0.01, a_minus = 0.02 }} }} }}
"""
TWO = """
connection = [{ pre = "pre", post = "post", kind = "dense", weight = { kind = "constant", value = 0.25 } }]
[population]
pre = { size = [1], neuron = "relay" }
post = { size = [1], neuron = { kind = "lif", reset = "to_value" } }
"""


@pytest.mark.parametrize("update", ["1 ms", "20 ms"])
def test_stdp_changes_a_weight_by_its_window_whatever_the_update(tmp_path: Path, update: str) -> None:
    """SGD of rate 1 unless something else is asked for; a spike that an arrival could have caused follows it by dt.

    Must fail when changes are divided by the steps of an update (tried).
    """
    path = _model(tmp_path, more=f', update = "{update}"', head=PAIR, network=TWO)
    run = neurosbd.simulate(path, out=tmp_path / "run")
    lags = (np.array([58 - 10, 15 - 10, 15 - 60, 58 - 60]) + 1) / 20
    expected = 0.25 + (0.01 * np.exp(-lags[lags > 0]).sum() - 0.02 * np.exp(lags[lags < 0]).sum())
    assert run.network().weights["pre->post"].item() == pytest.approx(expected, rel=1e-5)
    assert run.definition.training.optimizer.model_dump()["lr"] == 1.0
    with pytest.warns(UsageWarning, match="rule 'stdp' states by how much a weight changes"):
        neurosbd.simulate(path, out=tmp_path / "adam", settings={"training.optimizer": "adam"})


ALONE = """
simulation = {{ duration = "{duration}", examples = 2 }}
stimulus = [{{ population = "cell", kind = "current", amplitude = [0.04, 0.06, 0.1], start = "50 ms" }}]
[population.cell]
size = [3]
neuron = {{ kind = "lif", tau_mem = "20 ms", reset = "to_value" }}
"""


def test_a_population_alone_under_a_current_fires_at_its_rate(tmp_path: Path) -> None:
    """From rest, v after n steps is I (1 - a^n) / (1 - a). No rule: nothing learns, and no rule is named."""
    path = _model(tmp_path, "1050 ms", head=ALONE, network="")
    run = neurosbd.simulate(path, out=tmp_path / "run", record=["cell.spikes"])
    a = math.exp(-1 / 20)
    expected = [0.0]
    for current in (0.06, 0.1):
        n = math.ceil(math.log(1 - (1 - a) / current) / math.log(a))
        expected.append(1000 // n)
    counted = run.trace["cell.spikes"][:].sum(0)
    assert counted.tolist() == [expected, expected]
    assert "own-seed0" in str(neurosbd.simulate(path, out=None, settings={"simulation.duration": "60 ms"}).path)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"stimulus.0.population": "sauce"}, "no population 'sauce' to stimulate; did you mean 'source'"),
        ({"stimulus.0.rate": "10 ms"}, "stimulus.0.rate: must be a rate, such as '10 Hz', got the time '10 ms'"),
        ({"simulation.duration": "10 mV"}, "simulation.duration: must be a time"),
        ({"simulation.duration": 0.09}, "duration = 0.09 s is no whole number of reports of 0.02 s; near it: 0.08 and"),
        ({"simulation.update": "3 ms"}, "report = 0.02 s is no whole number of updates of 0.003 s"),
        ({"simulation.update": "0.5 ms"}, "update = 0.0005 s is no whole number of steps"),
        ({"rule": "sbd"}, "rule 'sbd' waits for the score of a loss, which nothing gives in a free run"),
        ({"rule": "rstdp"}, "rule 'rstdp' waits for rewards"),
        ({"stimulus.0.start": 2.0, "stimulus.0.stop": 1.0}, "needs start < stop"),
        ({"stimulus.0.kind": "poison"}, "there is no 'poison'; did you mean 'poisson'"),
        ({"record.signals": ["loss"]}, "nobody scores"),
        (
            {"simulation.examples": 2**31 - 1},
            "2,147,483,647 examples side by side, each of .* make simulation.examples",
        ),
        ({"protocol": "pairing"}, r"\[simulation\] and \[protocol\] are different experiments"),
    ],
)
def test_what_is_no_free_run_is_refused_and_nothing_is_written(
    tmp_path: Path, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        neurosbd.simulate(_model(tmp_path), out=tmp_path / "run", settings=settings)
    assert not (tmp_path / "run").exists()


def test_a_free_run_is_no_fit_and_a_fit_no_free_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="experiment without a data set; run it with: neurosbd simulate"):
        neurosbd.fit(_model(tmp_path))
    with pytest.raises(UsageError, match="no task, protocol or simulation; train it with: neurosbd fit digits-mlp"):
        neurosbd.simulate("digits-mlp")
    with pytest.warns(UsageWarning, match="nothing reaches population 'source'"):
        settings = {"stimulus": [], "simulation.duration": "20 ms"}
        run = neurosbd.simulate(_model(tmp_path), out=tmp_path / "silent", settings=settings)
    assert not run.trace["exc.spikes"][:].any()
    text = (tmp_path / "own.toml").read_text()
    (tmp_path / "stray.toml").write_text(text[text.index("stimulus") :])
    with pytest.raises(UsageError, match=r"\[\[stimulus\]\] is for a free run; add \[simulation\]"):
        load_model(tmp_path / "stray.toml")
    (tmp_path / "odd.toml").write_text(
        "simulation = { duration = 1.0 }\nconnection = 3\npopulation = { a = { size = [1] } }"
    )
    with pytest.raises(UsageError, match="connection: must be a list"):
        load_model(tmp_path / "odd.toml")
    with pytest.warns(UsageWarning, match="a free run does not use training.epochs"):
        neurosbd.simulate(_model(tmp_path), out=tmp_path / "two", settings={"training.epochs": 3})


def test_a_damaged_checkpoint_or_a_changed_file_of_spikes_is_refused(tmp_path: Path) -> None:
    spikes = tmp_path / "spikes.csv"
    spikes.write_text("time,unit\n0.01,0\n0.05,3\n")
    settings = {"stimulus.0": {"population": "source", "kind": "spikes", "file": str(spikes)}}
    session = FreeSession(load_model(_model(tmp_path), settings=settings).build(), torch.device("cpu"))
    session.recorder = None
    session.advance()
    state = session.state_dict()

    nowhere = torch.full_like(state["network"]["weights.exc->exc"], float("nan"))

    def refused(said: str, **changes: Any) -> None:
        fresh = FreeSession(load_model(_model(tmp_path), settings=settings).build(), torch.device("cpu"))
        fresh.recorder = None
        with pytest.raises(UsageError, match=said):
            fresh.load_state_dict({**state, **changes}, Path("checkpoint.pt"))
        assert fresh.step == 0

    refused("number is 1000", number=1000)
    refused("epoch is 3", epoch=3)
    refused(r"network.weights.exc->exc is not finite", network={**state["network"], "weights.exc->exc": nowhere})
    refused("optimizer.state is of 1 parameters", optimizer={**state["optimizer"], "state": {0: {"step": 1.0}}})
    refused("optimizer is int", optimizer=3)
    refused("recorder is dict", recorder={})
    refused("rewards", rewards=[1])
    refused("at_report", at_report={"exc->exc": torch.zeros(3)})
    refused("stimuli.block is 7", stimuli={**state["stimuli"], "block": 7})
    refused("stimuli: NoneType there", stimuli=None)
    refused(
        "stimuli.states.0.done is -9", stimuli={**state["stimuli"], "states": [[-9], *state["stimuli"]["states"][1:]]}
    )
    refused("frame", frame=state["frame"][:1])
    refused("frame.neurons.exc|frame.0.exc", frame=[[[torch.zeros(3)] * 3, state["frame"][0][1]], *state["frame"][1:]])
    refused("traces", traces=[1, 2])
    refused("network", network={})
    spikes.write_text("time,unit\n0.02,0\n")
    refused(r"spikes\.csv has changed since")


def test_a_run_goes_on_in_a_folder_that_was_moved_and_keeps_what_it_warned_of(tmp_path: Path) -> None:
    """Model, spikes and run; to the same bits. Must fail when paths are compared as they were written."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    (first / "late.csv").write_text("time,unit\n0.001,0\n0.0011,0\n0.012,1\n")
    _model(first)
    text = (first / "own.toml").read_text()
    (first / "own.toml").write_text(
        text.replace("stimulus = [", 'stimulus = [{ population = "source", kind = "spikes", file = "late.csv" },')
    )
    with pytest.warns(UsageWarning, match="may send several"), pytest.warns(UsageWarning, match="spikes share a step"):
        whole = neurosbd.simulate(first / "own.toml", out=first / "whole")
        halves = neurosbd.simulate(first / "own.toml", out=first / "run", loggers=[_Stops()])
    assert any("spikes share a step" in text for text in whole.result["warnings"])
    assert halves.result["status"] == "interrupted" and halves.result["warnings"] == whole.result["warnings"]
    weights = whole.network().weights["exc->exc"]
    first.rename(second)
    with pytest.warns(UsageWarning, match="may send several"), pytest.warns(UsageWarning, match="spikes share a step"):
        done = neurosbd.simulate(second / "own.toml", out=second / "run", resume=True)
    assert done.result["status"] == "finished" and set(whole.result["warnings"][1:]) <= set(done.result["warnings"])
    assert torch.equal(done.network().weights["exc->exc"], weights)


def test_a_line_of_metrics_that_lacks_a_rate_is_left_out_of_the_figure(tmp_path: Path) -> None:
    """Must fail when lines are taken to be alike: a KeyError at the end of the run (found by damaged files)."""
    neurosbd.simulate(_model(tmp_path), out=tmp_path / "run", loggers=[_Stops()])
    path = tmp_path / "run" / "metrics.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0].replace("source.rate", "s"), *lines[1:]]) + "\n")
    with pytest.warns(
        UsageWarning, match=r"metrics.jsonl: 1 of 5 lines lack .* report 1 source.rate; measures and figure"
    ):
        run = neurosbd.simulate(_model(tmp_path), out=tmp_path / "run", resume=True)
    assert run.result["measures"]["source.rate"] == np.mean([line["source.rate"] for line in run.metrics[1:]])


class _Stops(NullLogger):
    """Interrupts the run at its second report."""

    def on_epoch(self, event: Event) -> None:
        if event["epoch"] == 2:
            os.kill(os.getpid(), signal.SIGTERM)


def test_the_model_of_the_page_runs(tmp_path: Path) -> None:
    """And names every stimulus; both it and the shipped one have 30 lines at most."""
    root = Path(__file__).resolve().parents[1]
    page = (root / "docs" / "free-runs.md").read_text()
    assert all(f"| `{name}` |" in page for name in neurosbd.stimuli)
    block = page.split("```toml\n")[1].split("```")[0]
    (tmp_path / "page.toml").write_text(block)
    settings = {"simulation.duration": "0.1 s", "stimulus.1.start": "50 ms"}
    run = neurosbd.simulate(tmp_path / "page.toml", settings=settings)
    assert run.metrics[-1]["exc.rate"] > 0
    code = page.split("```python\n")[1].split("```")[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 27
    shipped = (root / "models" / "balanced-network.toml").read_text()
    for text in (block, shipped):
        assert len([line for line in text.splitlines() if line.strip() and not line.startswith("#")]) <= 30


def _by_hand(seed: int = 0) -> neurosbd.Network:
    lif = neurosbd.neurons["lif"](tau_mem=20e-3, refractory=3e-3)
    constant, dense = neurosbd.initialisers["constant"], neurosbd.connections["dense"]
    populations = [
        neurosbd.Population("source", (6,), neurosbd.neurons["relay"]()), neurosbd.Population("exc", (8,), lif)
    ]  # fmt: skip
    connections = [
        neurosbd.Connection("source", "exc", dense(weight=constant(0.125)), plastic=False),
        neurosbd.Connection("exc", "exc", dense(sparsity=0.5, weight=constant(0.0625))),
    ]
    return neurosbd.Network(populations, connections, generator(seed, "weights"))


STIMULI = [
    neurosbd.Stimulation("source", neurosbd.stimuli["poisson"](rate=100.0)),
    neurosbd.Stimulation("exc", neurosbd.stimuli["noise_current"](mean=0.06, std=0.1, tau=5e-3)),
]
RECORD = ["*.spikes", "exc.v", "exc->exc.weight", "exc->exc.dweight"]


def test_python_and_a_model_file_give_the_same_bits(tmp_path: Path) -> None:
    """A rule as an object and as a table; what the run keeps is what the file says."""
    window = Window(a_plus=0.01, a_minus=0.011, w_min=0.0, w_max=0.2)
    rule = neurosbd.rules["stdp"](plasticity=neurosbd.plasticities["spike_timing"](window=window))
    filed = neurosbd.simulate(_model(tmp_path), out=tmp_path / "file")
    by_hand = neurosbd.run(_by_hand(), "100 ms", STIMULI, rule, record=RECORD, out=tmp_path / "hand", report=0.02)
    _same(filed, by_hand)
    drop = ("name", "about", "source")
    one, two = (run.definition.model_dump(exclude=set(drop)) for run in (filed, by_hand))
    assert one == two
    table = {"kind": "stdp", "plasticity": {"window": vars(window)}}
    again = neurosbd.run(_by_hand(), 0.1, STIMULI, table, record=RECORD, out=tmp_path / "table", report=0.02)
    _same(filed, again)


def test_given_weights_masks_and_constants_run_as_they_are_and_resume(tmp_path: Path) -> None:
    """Must fail when the network is built anew from what the run says of it (tried)."""
    present = torch.eye(3)
    network = neurosbd.Network(
        [neurosbd.Population("a", (3,), neurosbd.neurons["lif"](tau_mem=torch.tensor([0.01, 0.02, 0.03])))],
        [
            neurosbd.Connection(
                "a", "a", neurosbd.connections["dense"](), constraints=(neurosbd.constraints["mask"](present),)
            )
        ],
        torch.Generator().manual_seed(0),
    )
    with torch.no_grad():
        network.weights["a->a"].copy_(-0.5 * present)
    given = [neurosbd.Stimulation("a", neurosbd.stimuli["current"](amplitude=0.3))]
    run = neurosbd.run(network, 0.05, given, record="a.spikes", out=tmp_path / "run")
    assert torch.equal(run.network().weights["a->a"], -0.5 * present)
    assert run.trace["a.spikes"][:].sum() > 3
    assert neurosbd.run(network, 0.05, given, record="a.spikes", out=tmp_path / "run", resume=True).metrics


def test_what_python_cannot_say_of_a_run_is_refused(tmp_path: Path) -> None:
    network = _by_hand()
    source = STIMULI[:1]

    class Mine(Current):
        """In no table."""

    for said, *arguments in (
        (r"stimuli\[0\] must be a neurosbd.Stimulation", 0.1, [neurosbd.stimuli["poisson"]()]),
        ("Mine is in no table of stimuli", 0.1, [neurosbd.Stimulation("exc", Mine())]),
        ("simulation.duration: must be a positive time", -1.0, source),
        ("simulation.duration: must be a time", "10 mV", source),
        ("no population 'sourec' to stimulate; did you mean 'source'", 0.1,
         [*source, neurosbd.Stimulation("sourec", neurosbd.stimuli["current"]())]),
        ("there is no 'stpd'; did you mean 'stdp'", 0.1, source, "stpd"),
        ("rule 'sbd' waits for the score", 0.1, source, neurosbd.rules["sbd"]()),
        ("stimuli must be a list, got Stimulation; one alone goes in brackets", 0.1, source[0]),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=said):
            neurosbd.run(network, *arguments, out=tmp_path / "run")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="network must be a neurosbd"):
        neurosbd.run("digits-mlp", 0.1)  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


def test_spike_trains_are_given_as_arrays_and_files_as_paths(tmp_path: Path) -> None:
    """As numpy and pathlib make them."""
    (tmp_path / "spikes.csv").write_text("time,unit\n0.001,0\n0.004,3\n")
    times, units = np.array([0.001, 0.004]), np.array([0, 3])
    given = neurosbd.stimuli["spikes"]
    ways = [given(times=times, units=units), given(times=torch.tensor(times), units=[0, 3]),
            given(file=tmp_path / "spikes.csv")]  # fmt: skip
    found = [
        neurosbd.run(_by_hand(), 0.01, [neurosbd.Stimulation("source", way)], record="source.spikes",
                     out=tmp_path / f"run{n}").trace["source.spikes"][:] for n, way in enumerate(ways)
    ]  # fmt: skip
    assert found[0].sum() == 2 and all(np.array_equal(found[0], other) for other in found[1:])
    with pytest.raises(ValueError, match=r"spikes.units\[0\] must be a whole number"):
        given(times=times, units=np.array([0.5, 1.0]))


def test_the_page_of_a_free_run_shows_its_whole_time_and_no_loss(tmp_path: Path) -> None:
    """Must fail when the raster is that of the last report (tried)."""
    run = with_trace(neurosbd.simulate(_model(tmp_path), out=tmp_path / "run"))
    names = ("raster", "learning_curves", "calibration", "dimension")
    found = {each.name: run_analysis(each, run) for each in chosen(()) if each.name in names}
    raster: Any = found["raster"].result
    assert raster.time.shape == (2, 100) and raster.time[0, -1] == pytest.approx(0.099)
    assert np.all(raster.window >= 5e-3)
    problems = {name: str(outcome.problem) for name, outcome in found.items()}
    assert "no loss" in problems["learning_curves"] and "predicts nothing" in problems["calibration"]
    assert "compares examples" in problems["dimension"]
    rows = dict(what_ran(run))
    assert rows["stimuli"] == "poisson at source, noise_current at exc" and rows["rule"] == "stdp, of exc->exc"
    assert not {"loss", "data", "epochs", "optimizer"} & rows.keys() and not how_it_went(run)[:1][0][0].startswith(
        "test"
    )
    assert "loss" not in str(run._repr_html_())


@pytest.mark.parametrize(
    "plasticity", ['"triplet"', '{{ kind = "symmetric_inhibitory", w_min = 0.0, w_max = 1.0 }}', '"oja"']
)
def test_what_each_plasticity_follows_goes_on_after_a_stop(tmp_path: Path, plasticity: str) -> None:
    """Onto an input that is stimulated, with a delay. Must fail when what they follow begins anew (tried)."""
    network = NETWORK.replace('pre = "source"', 'pre = "input", delay = 3').replace("plastic = false", "plastic = true")
    network = network.replace('source = { size = [6], neuron = "relay" }', "input = { size = [6] }")
    head = HEAD.replace('"source"', '"input"').replace('"stdp"', '"local", neuromodulator = "none"')
    head = head.split("plasticity =")[0] + f"plasticity = {plasticity} }}}}\n"
    path, states = _model(tmp_path, head=head, network=network), []
    for stop in (100, 70):
        session = FreeSession(load_model(path).build(), torch.device("cpu"))
        while session.step < stop:
            session.advance()
        torch.save(session.state_dict(), tmp_path / "state.pt")
        session = FreeSession(load_model(path).build(), torch.device("cpu"))
        session.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True), tmp_path / "state.pt")
        while not session.over():
            session.advance()
        states.append(session.state_of_parts())
    assert str(states[0]["traces"]) == str(states[1]["traces"])
    weights = [state["network"]["weights.input->exc"] for state in states]
    assert torch.equal(*weights) and weights[0].unique().numel() > 1


def test_a_run_of_several_processes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written. Must fail when each process runs by itself (tried)."""
    place = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "n1", "MASTER_PORT": "29500"}
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(neurosbd.UsageError, match="started 2 processes"):
        neurosbd.run(_by_hand(), "100 ms", STIMULI, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_single_report_is_drawn_as_a_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line through one point is nothing. Must fail when it is drawn as one (tried)."""
    drawn: list[tuple[int, str]] = []
    plot = Axes.plot
    monkeypatch.setattr(
        Axes, "plot", lambda axes, x, y, look, **k: drawn.append((len(x), look)) or plot(axes, x, y, look, **k)
    )
    for duration in ("20 ms", "40 ms"):
        neurosbd.simulate(_model(tmp_path, duration), out=tmp_path / duration)
    assert {(1, "o"), (2, "-")} <= set(drawn) and (1, "-") not in drawn


def _relays(folder: Path, *stimuli: str) -> Path:
    path = folder / "relays.toml"
    given = ", ".join(f'{{ population = "source", {each} }}' for each in stimuli)
    path.write_text(
        f'simulation = {{ duration = "50 ms" }}\nstimulus = [{given}]\nrecord = {{ signals = ["*.spikes"] }}\n'
        f'[population]\nsource = {{ size = [3], neuron = "relay" }}\n'
    )
    return path


SOME, MANY = 'kind = "poisson", rate = "50 Hz"', 'kind = "poisson", rate = "50 Hz", sources = 40'
LISTED = 'kind = "spikes", times = ["10 ms"], units = [{unit}]'


@pytest.mark.parametrize("stimuli", [(MANY,), (SOME, SOME), (SOME, LISTED.format(unit=0))])
def test_spikes_that_a_recording_merges_are_said(tmp_path: Path, stimuli: tuple[str, ...]) -> None:
    """The rate of a run counts all spikes of a step, its recording one. Must fail without the warning (tried)."""
    with pytest.warns(UsageWarning, match=r"'source' may send several spikes in one step of dt = 0\.001 s"):
        neurosbd.simulate(_relays(tmp_path, *stimuli), out=tmp_path / "run")


@pytest.mark.parametrize(
    "stimuli",
    [(SOME + ', stop = "20 ms"', SOME + ', start = "20 ms"'), (LISTED.format(unit=0), LISTED.format(unit=1))],
)
def test_spikes_that_cannot_coincide_are_not_warned_of(tmp_path: Path, stimuli: tuple[str, ...]) -> None:
    """Every spike that is counted is recorded. Must fail when any two stimuli are warned of."""
    run = neurosbd.simulate(_relays(tmp_path, *stimuli), out=tmp_path / "run")
    counted = run.result["measures"]["source.rate"]
    assert run.trace["source.spikes"][:].mean() / 1e-3 == pytest.approx(counted, rel=1e-6)


def test_synapses_are_drawn_from_those_that_are_there(tmp_path: Path) -> None:
    """Of a matrix with 20 synapses among 400 places. Must fail when places are drawn, which record zeros (tried)."""
    network = NETWORK.replace("size = [6]", "size = [20]").replace("size = [8]", "size = [20]")
    wired = network.replace("sparsity = 0.5", 'wiring = "one_to_one"')
    path = _model(tmp_path, network=wired, head=HEAD.replace('"exc->exc.weight", "exc->exc.dweight"', '"exc.spikes"'))
    path.write_text(path.read_text().replace('"exc.v", "exc.spikes"', '"exc->exc.weight[synapses=random 12]"'))
    run = neurosbd.simulate(path, out=tmp_path / "run")
    weights = run.trace["exc->exc.weight"]
    assert weights.shape[1] == 12 and (weights[0] == 0.0625).all()
    assert (np.asarray(weights.ends.post) == np.asarray(weights.ends.pre)).all()
    path.write_text(path.read_text().replace("random 12", "random 21"))
    with pytest.raises(UsageError, match="random 21 of 20; legal is 1 to 20"):
        neurosbd.simulate(path, out=tmp_path / "more")


def test_weights_outside_of_the_bounds_of_a_plasticity_are_said(tmp_path: Path) -> None:
    """Its first update brings them to the edge. Must fail when a run does not ask (tried)."""
    model = _model(tmp_path)
    model.write_text(model.read_text().replace("w_max = 0.2", "w_max = 0.05"))
    said = r"'exc->exc': (\d+) of \1 initial weights were outside of Bounds\(lower=0.0, upper=0.05\)"
    with pytest.warns(UsageWarning, match=said):
        run = neurosbd.simulate(model, out=tmp_path / "run")
    assert run.trace["exc->exc.weight"][-1].max() <= 0.05 and any(re.search(said, w) for w in run.result["warnings"])


def test_a_connection_without_synapses_has_none_to_record(tmp_path: Path) -> None:
    """A list of them is empty. Must fail when a file is laid out for no number (tried)."""
    model, none = _model(tmp_path), r"'exc->exc': none of 64 pairs is joined"
    model.write_text(model.read_text().replace("sparsity = 0.5", 'sparsity = 0.9999, storage = "sparse"'))
    everywhere = {"record.signals": ["*.weight", "*.spikes"]}
    with pytest.warns(UsageWarning, match=none):
        run = neurosbd.simulate(model, out=tmp_path / "run", settings=everywhere)
    assert [name for name in run.trace.names if name.endswith("weight")] == ["source->exc.weight"]
    with pytest.warns(UsageWarning, match=none), pytest.raises(UsageError, match="'exc->exc' has no weight"):
        neurosbd.simulate(model, out=tmp_path / "other")
