"""SONATA networks of point neurons as models of ours: against one written by hand, and against NEST 3.10.0."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import numpy as np
import pytest

import neurosbd
from neurosbd.cli.main import main
from neurosbd.errors import UsageError, UsageWarning
from neurosbd.stimuli.spike_files import read_spikes
from tests.synthetic import loaded

NODE_TYPES = """node_type_id model_type model_template pop_name dynamics_params
7 point_neuron nest:iaf_psc_exp slow slow.json
9 point_neuron iaf_psc_exp quick quick.json
"""
EDGE_TYPES = """edge_type_id target_query source_query syn_weight delay dynamics_params model_template
1 "pop_name=='slow' & x > 1" * 400.0 1.0 NULL static_synapse
2 * * NULL 2.0 some.json nest:static_synapse
"""
OUTSIDE = "edge_type_id syn_weight delay model_template\n0 1250.0 1.5 static_synapse\n"
MODEL = {"tau_m": 20.0, "C_m": 250.0, "E_L": -65.0, "V_m": -65.0, "V_th": -50.0, "V_reset": -70.0, "t_ref": 2.0}
SPIKES = {0: [0.5, 3.0, 4.5, 9.0, 20.0, 21.5], 1: [1.0, 2.5, 3.5, 12.0, 13.0, 20.5, 22.0], 2: [2.0, 5.0, 6.0, 21.0]}
DT, DURATION = 0.5e-3, 40e-3


def write(folder: Path) -> Path:
    """Two cells of one type and one of another, which hear three virtual nodes and each other."""
    folder.mkdir()
    texts = {"node_types.csv": NODE_TYPES, "edge_types.csv": EDGE_TYPES, "outside_types.csv": OUTSIDE}
    texts |= {"virtual_types.csv": "node_type_id model_type\n0 virtual\n", "some.json": '{"weight": -600.0}'}
    texts |= {"slow.json": json.dumps({**MODEL, "tau_syn_ex": 4.0, "tau_syn_in": 8.0})}
    texts |= {"quick.json": json.dumps({**MODEL, "tau_m": 10.0, "tau_syn_ex": 3.0, "tau_syn_in": 6.0})}
    for name, text in texts.items():
        (folder / name).write_text(text)
    with h5py.File(folder / "nodes.h5", "w") as file:
        group = file.create_group("nodes/cells")
        group["node_id"], group["node_type_id"] = [10, 11, 12], [7, 9, 7]
        group["node_group_id"], group["node_group_index"] = [0, 0, 0], [0, 1, 2]
        group["0/dynamics_params/V_th"] = [-50.0, -52.0, -51.0]
    with h5py.File(folder / "virtual.h5", "w") as file:
        file["nodes/outside/node_type_id"] = [0, 0, 0]
    with h5py.File(folder / "edges.h5", "w") as file:
        _edges(file, "inside", ("cells", "cells"), [(10, 11, 1), (12, 11, 1), (10, 11, 1), (11, 10, 2), (11, 12, 2)])
        file["edges/inside/edge_group_id"], file["edges/inside/edge_group_index"] = [0] * 5, [1, 0, 2, 3, 4]
        file["edges/inside/0/delay"] = [1.0, 2.0, 3.0, 2.0, 1.5]
    with h5py.File(folder / "outside.h5", "w") as file:
        _edges(file, "given", ("outside", "cells"), [(0, 10, 0), (1, 11, 0), (2, 12, 0), (1, 12, 0)])
        file["edges/given/0/nsyns"] = [1, 2, 1, 1]
    with h5py.File(folder / "spikes.h5", "w") as file:
        times = [(time, unit) for unit, each in SPIKES.items() for time in each]
        file["spikes/outside/timestamps"], file["spikes/outside/node_ids"] = zip(*times, strict=True)
    config = {
        "manifest": {"$HERE": ".", "${FILES}": "$HERE"},
        "run": {"tstop": DURATION * 1e3, "dt": DT * 1e3},
        "components": {"point_neuron_models_dir": "$HERE", "synaptic_models_dir": "${FILES}"},
        "networks": {
            "nodes": [
                {"nodes_file": "$HERE/nodes.h5", "node_types_file": "${FILES}/node_types.csv"},
                {"nodes_file": "virtual.h5", "node_types_file": "virtual_types.csv"},
            ],
            "edges": [
                {"edges_file": "$HERE/edges.h5", "edge_types_file": "$HERE/edge_types.csv"},
                {"edges_file": "outside.h5", "edge_types_file": "outside_types.csv", "enabled": True},
                {"edges_file": "no.h5", "edge_types_file": "no.csv", "enabled": False},
            ],
        },
        "inputs": {"s": {"input_type": "spikes", "node_set": "given", "input_file": "$HERE/spikes.h5"}},
        "node_sets_file": "sets.json",
    }
    (folder / "sets.json").write_text('{"given": {"population": "outside", "node_id": [0, 1, 2]}}')
    (folder / "config.json").write_text(json.dumps(config))
    return folder / "config.json"


def _edges(file: h5py.File, name: str, ends: tuple[str, str], edges: list[tuple[int, int, int]]) -> None:
    group, nodes = file.create_group(f"edges/{name}"), np.array(edges)
    for column, (side, population) in enumerate(zip(("source", "target"), ends, strict=True)):
        group[f"{side}_node_id"] = nodes[:, column]
        group[f"{side}_node_id"].attrs["node_population"] = population
    group["edge_type_id"] = nodes[:, 2]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write(tmp_path / "net")


OURS = """
simulation = {{ duration = "40 ms", report = "40 ms" }}
time = {{ dt = "0.5 ms" }}
record = {{ signals = ["*.spikes"] }}
stimulus = [{{ population = "outside", kind = "spikes", times = {times}, units = {units} }}]
connection = [
    {{ pre = "outside", post = "slow", kind = "dense", delay = "2 ms", weight = {{ kind = "file", file = "a.npz", array = "given" }}, wiring = {{ kind = "file", file = "a.npz", array = "given" }}, synapse = {{ kind = "exponential", tau = "4 ms" }} }},
    {{ pre = "outside", post = "quick", kind = "dense", delay = "2 ms", weight = {{ kind = "file", file = "a.npz", array = "to_quick" }}, wiring = {{ kind = "file", file = "a.npz", array = "to_quick" }}, synapse = {{ kind = "exponential", tau = "3 ms" }} }},
    {{ pre = "slow", post = "quick", kind = "dense", weight = {{ kind = "constant", value = 0.016 }}, delay = {{ kind = "file", file = "a.npz", array = "delay" }}, synapse = {{ kind = "exponential", tau = "3 ms" }} }},
    {{ pre = "slow", post = "quick", label = "late", kind = "dense", weight = {{ kind = "constant", value = 0.016 }}, wiring = {{ kind = "file", file = "a.npz", array = "late" }}, delay = "3.5 ms", synapse = {{ kind = "exponential", tau = "3 ms" }} }},
    {{ pre = "quick", post = "slow", kind = "dense", weight = {{ kind = "constant", value = -0.048 }}, delay = {{ kind = "file", file = "a.npz", array = "back" }}, synapse = {{ kind = "exponential", tau = "8 ms" }} }},
]
[population]
outside = {{ size = [3], neuron = "relay" }}
slow = {{ size = [2], neuron = {{ kind = "lif", tau_mem = "20 ms", v_leak = "-65 mV", v_reset = "-70 mV", reset = "to_value", v_threshold = {{ kind = "file", file = "a.npz", array = "v_threshold" }}, refractory = "2.5 ms", refractoriness = "clamped", r = {slow} }} }}
quick = {{ size = [1], neuron = {{ kind = "lif", tau_mem = "10 ms", v_leak = "-65 mV", v_reset = "-70 mV", reset = "to_value", v_threshold = "-52 mV", refractory = "2.5 ms", refractoriness = "clamped", r = {quick} }} }}
"""  # noqa: E501


def by_hand(folder: Path) -> Path:
    """The same network as a model file."""
    folder.mkdir()
    times = [(round(time * 1e-3 - DT, 9), unit) for unit, each in SPIKES.items() for time in each]
    when, who = (list(each) for each in zip(*times, strict=True))
    r = {name: 1 - np.exp(-DT / tau) for name, tau in (("slow", 20e-3), ("quick", 10e-3))}
    given = np.array([[0.1, 0, 0], [0, 0.1, 0.1]])
    np.savez(
        folder / "a.npz", given=given, to_quick=np.array([[0, 0.1, 0]]), delay=np.array([[2.5e-3, 1.5e-3]]),
        late=np.array([[1, 0]]), back=np.array([[2.5e-3], [2e-3]]), v_threshold=np.array([-50e-3, -51e-3]),
    )  # fmt: skip
    (folder / "model.toml").write_text(OURS.format(times=when, units=who, **r))
    return folder / "model.toml"


def recorded(model: Path, out: Path, *signals: str) -> list[np.ndarray]:
    trace = neurosbd.simulate(model, out=out, loggers=[], settings={"record.signals": list(signals)}).trace
    return [trace[name][:][:, 0] for name in signals]


def test_a_network_fires_as_the_one_that_is_written_by_hand(config: Path, tmp_path: Path) -> None:
    """In spikes and potentials: types, constants of nodes, groups, several edges of a pair, signs, nsyns, node sets.

    Must fail when the index of the group is left out, when the second edge of a pair is added to the first, when a
    delay is a step shorter, or nsyns is 1 (tried: all four).
    """
    with pytest.warns(UsageWarning, match=r"edges 'given': weights are multiplied by nsyns"):
        model = neurosbd.from_sonata(config, tmp_path / "out")
    signals = ("outside.spikes", "slow.spikes", "quick.spikes", "slow.v", "quick.v")
    theirs = recorded(by_hand(tmp_path / "hand"), tmp_path / "theirs", *signals)
    ours = recorded(model, tmp_path / "ours", *(re.sub("^(slow|quick)", r"cells-\1", name) for name in signals))
    for name, one, other in zip(signals, theirs, ours, strict=True):
        assert np.allclose(one, other, rtol=0, atol=1e-7), name
    assert [each.sum() for each in theirs[:3]] == [17, 5, 6]
    arrays = np.load(model.parent / "arrays.npz")
    assert arrays["cells-slow node_id"].tolist() == [10, 12] and arrays["cells-quick node_id"].tolist() == [11]


NEST: dict[str, tuple[int, int]] = {  # `python benchmarks/nest_sonata.py`: spikes, and their weighted sum
    "iaf_psc_alpha": (316, 8827923), "iaf_psc_exp": (169, 4900031), "iaf_psc_delta": (64, 1479398),
    "izhikevich": (26, 435125),
}  # fmt: skip
FIRST = [
    42, 40, 39, 42, 39, 45, 40, 43, 40, 41, 44, 41, 47, 37, 44, 36, 47, 37, 38, 40, 38, 41, 39, 37, 40, 37, 44, 33, 42,
    34,
]  # fmt: skip
"""Of each node under iaf_cond_alpha: the step of its first spike."""


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "benchmarks"))
    return loaded("benchmarks/nest_sonata.py")


def simulated(networks: ModuleType, name: str, folder: Path) -> list[tuple[int, int]]:
    options, found = networks.NETWORKS[name], []
    model = neurosbd.from_sonata(networks.write(folder / "net", options), folder / "out")
    run = neurosbd.simulate(
        model, out=folder / "run", loggers=[], settings={"simulation.report": options.duration / 1e3}
    )
    arrays = np.load(model.parent / "arrays.npz")
    for signal in (name for name in run.trace.names if name.startswith("internal")):
        nodes = arrays[signal.replace(".spikes", " node_id")]
        steps, units = np.nonzero(run.trace[signal][:][:, 0])
        found += [(int(step), int(nodes[unit])) for step, unit in zip(steps, units, strict=True)]
    return sorted(found)


@pytest.mark.parametrize("name", NEST)
def test_networks_fire_as_in_nest(networks: ModuleType, name: str, tmp_path: Path) -> None:
    """30 cells of five types and 100 virtual nodes for 60 ms, spike for spike, all of them.

    Must fail when currents act a step earlier, deltas a step later, membranes are let go a step earlier, or start at
    rest wherever V_m is (tried: all four).
    """
    found = simulated(networks, name, tmp_path)
    assert (len(found), networks.weighted(found)) == NEST[name]


def test_a_network_of_conductances_is_near_that_of_nest(networks: ModuleType, tmp_path: Path) -> None:
    """NEST solves within a step of 0.25 ms; first spikes within one step of its own.

    Must fail when reversal potentials are exchanged (tried).
    """
    found = networks.first_of_each(simulated(networks, "iaf_cond_alpha", tmp_path))
    late = np.array(found) - FIRST
    assert np.abs(late).max() <= 1


def test_spikes_in_the_older_layouts_of_sonata_are_the_same(config: Path) -> None:
    """Must fail when `gids` are not looked for (tried)."""
    whole, path = read_spikes(config.parent / "spikes.h5"), config.parent / "old.h5"
    for place in ("spikes", "spikes/outside"):
        with h5py.File(path, "w") as file:
            file[f"{place}/timestamps"], file[f"{place}/gids"] = whole.times * 1e3, whole.units
        assert np.allclose(read_spikes(path, "outside").times, whole.times)
        assert np.array_equal(read_spikes(path, "outside").units, whole.units)


def _put(file: str, text: str) -> Callable[[Path], None]:
    return lambda folder: _write_text(folder / file, text)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text)


def _exchanged(file: str, old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new))

    return change


def _stored(file: str, name: str, value: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        with h5py.File(folder / file, "a") as opened:
            attributes = dict(opened[name].attrs) if name in opened else {}
            if name in opened:
                del opened[name]
            opened[name] = value
            opened[name].attrs.update(attributes)

    return change


def _external(folder: Path) -> None:
    with h5py.File(folder / "edges.h5", "a") as file:
        del file["edges/inside/0/delay"]
        file["edges/inside/0/delay"] = h5py.ExternalLink("spikes.h5", "spikes/outside/timestamps")


REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "biophysical": (
        _exchanged("node_types.csv", "point_neuron nest:", "biophysical ctdb:"),
        r"type 7: model_type 'biophys.*legal are point_neuron, point_process and virtual",
    ),
    "template": (
        _exchanged("node_types.csv", "nest:iaf_psc_exp", "nest:iaf_psc_expo"),
        r"model_template 'nest:iaf_psc_expo' is not read here; did you mean 'iaf_psc_exp'",
    ),
    "constant": (
        _put("slow.json", '{"tau_n": 2}'),
        r"type 7: the constant 'tau_n' is not read here; did you mean 'tau_m'",
    ),
    "negative": (_put("slow.json", '{"tau_m": -2}'), r"tau_m must be > 0, got -2"),
    "gap junction": (
        _exchanged("edge_types.csv", "static_synapse\n2", "gap_junction\n2"),
        r"type 1: model_template 'gap_junction' is not read here; legal is static_synapse",
    ),
    "no weight": (_put("some.json", "{}"), r"edges of type 2 have no syn_weight; give it as a column"),
    "receptor": (_put("some.json", '{"weight": 1, "receptor_type": 1}'), r"receptor_type must be 0"),
    "type": (
        _stored("edges.h5", "edges/inside/edge_type_id", [1, 1, 1, 2, 5]),
        r"type 5 is not in its table of types, which has \[1, 2\]",
    ),
    "node": (
        _stored("edges.h5", "edges/inside/source_node_id", [1, 1, 1, 2, 5]),
        r"node 1 is not in population 'cells'",
    ),
    "length": (
        _stored("edges.h5", "edges/inside/edge_type_id", [1]),
        r"source_node_id has 5 entries, but the types have 1",
    ),
    "group": (
        _stored("edges.h5", "edges/inside/edge_group_index", [1, 0, 2, 3, 9]),
        r"'delay' has 5 values, but one for number 9 is needed",
    ),
    "refractoriness": (
        _stored("nodes.h5", "nodes/cells/0/dynamics_params/t_ref", [1.0, 2.0, 3.0]),
        r"'cells-slow': refractory \(t_ref\) differs between nodes",
    ),
    "synapse": (
        _stored("nodes.h5", "nodes/cells/0/dynamics_params/tau_syn_ex", [1.0, 2.0, 3.0]),
        r"tau_syn_ex differs between units of one type, from 1 to 3",
    ),
    "outside": (
        _exchanged("config.json", '"virtual.h5"', '"../virtual.h5"'),
        r"networks.nodes\[1\].nodes_file leads to .*outside of .*--within DIR",
    ),
    "variable": (
        _exchanged("config.json", "$HERE/nodes.h5", "$HER/nodes.h5"),
        r"the manifest has no '\$HER'; did you mean 'HERE'",
    ),
    "circle": (_exchanged("config.json", '"$HERE": "."', '"$HERE": "$HERE/x"'), r"name each other in a circle"),
    "no input": (
        _exchanged("sets.json", "outside", "cells"),
        r"is given to 'cells', which is no population of virtual nodes|no spikes of population 'cells'",
    ),
    "some nodes": (
        _exchanged("sets.json", '"node_id": [0, 1, 2]', '"ei": "e"'),
        r"inputs.s.node_set: a node set is read by population and node_id, .* got ei; name the nodes by those",
    ),
    "link": (_external, r"'edges/inside/0/delay' is a link to another place; refused"),
    "no file": (lambda folder: (folder / "nodes.h5").unlink(), r"nodes.h5: No such file"),
    "no HDF5": (_put("nodes.h5", "no"), r"nodes.h5: not a readable HDF5 file"),
    "commas": (
        _exchanged("outside_types.csv", " ", ","),
        r"line 1: no column 'edge_type_id'; needed is a table separated by spaces",
    ),
}


@pytest.mark.filterwarnings("ignore::neurosbd.UsageWarning")
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_said_here_is_refused_by_name(name: str, config: Path, tmp_path: Path) -> None:
    """And nothing is left behind. Must fail when a template falls back on another (tried)."""
    change, said = REFUSED[name]
    change(config.parent)
    with pytest.raises(UsageError, match=said):
        neurosbd.from_sonata(config, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["net"]


SAID: dict[str, tuple[Callable[[Path], None], str]] = {
    "rounded": (
        _stored("edges.h5", "edges/inside/0/delay", [1.0, 2.2, 3.0, 2.0, 0.1]),
        r"2 of 5 delays are no whole number of steps of dt = 0.5 ms and are rounded",
    ),
    "edge": (
        _stored("edges.h5", "edges/inside/0/sec_id", [0, 0, 0, 0, 0]),
        r"sec_id of single edges mean nothing here: left out",
    ),
    "column": (
        _exchanged(
            "outside_types.csv", "model_template\n0 1250.0 1.5 ", "distance_range model_template\n0 1250.0 1.5 [0,1] "
        ),
        r"type 0: distance_range mean nothing here: left out",
    ),
    "input": (
        _exchanged(
            "config.json", '"inputs": {', '"inputs": {"c": {"input_type": "current_clamp", "module": "IClamp"}, '
        ),
        r"inputs.c \(input_type 'current_clamp', module 'IClamp'\) is left out",
    ),
    "report": (
        _exchanged("config.json", '"inputs"', '"reports": {"v": {}}, "inputs"'),
        r"left out: reports \(say what to record",
    ),
    "some nodes": (
        _exchanged("sets.json", "[0, 1, 2]", "[1, 2]"),
        r"spikes.h5: \d+ of 17 spikes are of nodes outside of the node set: left out",
    ),
    "silent": (_exchanged("config.json", '"inputs"', '"other"'), r"virtual population 'outside' is given no spikes"),
    "off steps": (
        _stored("spikes.h5", "spikes/outside/timestamps", [0.0, 0.7] + [3.0] * 15),
        r"of 17 spikes 1 are between steps of dt = 0.0005 s and go to the nearest, 1 at 0 to the first",
    ),
}


@pytest.mark.filterwarnings("ignore::neurosbd.UsageWarning")
@pytest.mark.parametrize("name", SAID)
def test_what_is_left_out_or_rounded_is_said(name: str, config: Path, tmp_path: Path) -> None:
    """Must fail when it is done in silence (tried)."""
    change, said = SAID[name]
    change(config.parent)
    with pytest.warns(UsageWarning, match=said):
        model = neurosbd.from_sonata(config, tmp_path / "out")
    neurosbd.load_model(model).network()


@pytest.mark.filterwarnings("ignore::neurosbd.UsageWarning")
def test_the_command_writes_a_model_and_refuses_as_all_do(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder is a network; components that lie elsewhere are read when the folder of both is named."""
    out = str(tmp_path / "out")
    assert main(["import", str(config.parent), "--from", "sonata", out, "--dt", "0.25 ms", "--duration", "5 ms"]) == 0
    assert f"neurosbd simulate {out}/model.toml" in capsys.readouterr().out
    definition = neurosbd.load_model(f"{out}/model.toml")
    assert (
        definition.time.dt == 0.25e-3 and definition.simulation is not None and definition.simulation.duration == 5e-3
    )
    assert main(["import", str(config), "--from", "sonata", out]) == 2
    assert "exists already" in capsys.readouterr().err
    shutil.move(config.parent / "slow.json", tmp_path / "slow.json")
    _exchanged("node_types.csv", "slow.json", "../slow.json")(config.parent)
    assert main(["import", str(config), "--from", "sonata", out + "2"]) == 2
    assert "--within DIR" in capsys.readouterr().err
    assert main(["import", str(config), "--from", "sonata", out + "2", "--within", str(tmp_path)]) == 0
    assert main(["import", str(config), "--from", "sonata", out + "3", "--dt", "fast"]) == 2
    assert "dt must be a time with its unit" in capsys.readouterr().err
