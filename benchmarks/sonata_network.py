"""A SONATA network of point neurons, of all that the format keeps: layout and sizes are those of the published example
'300_pointneurons' (Dai et al. 2020), whose cells and connections are replaced by constants of this file.

    python benchmarks/sonata_network.py FOLDER --cells 300       # with h5py and numpy

Two populations: 'internal', three types of excitatory and two of inhibitory cells, and 'external', virtual nodes that
give Poisson spikes. Weights lie on the edges, delays with their types.
"""

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

CELLS = {  # name: (share of the cells, excitatory?, constants)
    "Scnn1a": (80, True, {"tau_m": 44.9, "C_m": 239.0, "t_ref": 3.0, "E_L": -78.0, "V_th": -43.0, "V_reset": -55.0}),
    "Rorb": (80, True, {"tau_m": 22.2, "C_m": 180.0, "t_ref": 3.0, "E_L": -85.0, "V_th": -50.0, "V_reset": -55.0}),
    "Nr5a1": (80, True, {"tau_m": 15.1, "C_m": 114.0, "t_ref": 3.0, "E_L": -77.0, "V_th": -50.0, "V_reset": -60.0}),
    "PV1": (30, False, {"tau_m": 12.3, "C_m": 115.0, "t_ref": 2.0, "E_L": -71.0, "V_th": -45.0, "V_reset": -60.0}),
    "PV2": (30, False, {"tau_m": 8.8, "C_m": 76.0, "t_ref": 2.0, "E_L": -71.0, "V_th": -48.0, "V_reset": -60.0}),
}  # ms, pF, mV
SYNAPSES = {"tau_syn_ex": 2.0, "tau_syn_in": 4.0}  # ms
WIRED = {  # (pre is excitatory, post is excitatory): (probability, weight in pA)
    (True, True): (0.2, 2.5), (True, False): (0.5, 7.0), (False, True): (0.5, -7.5), (False, False): (0.5, -3.0),
}  # fmt: skip
OUTSIDE = {True: (0.7, 50.0), False: (0.7, 65.0)}
VIRTUAL, RATE = 100, 15.0  # nodes; Hz


class Options(NamedTuple):
    """What may differ: cells in all; template of NEST; a factor on weights; constants besides those of the cells, or
    alone; ms; seed."""

    cells: int = 300
    template: str = "iaf_psc_alpha"
    scale: float = 1.0
    constants: dict[str, float] = SYNAPSES
    alone: bool = False
    dt: float = 0.1
    duration: float = 300.0
    delay: float = 2.0
    seed: int = 0


def write(folder: Path, options: Options) -> Path:
    """All files of the network; returns the configuration of its simulation."""
    random, counts = np.random.default_rng(options.seed), {}
    for name, (share, _, _) in CELLS.items():
        counts[name] = max(1, round(share * options.cells / 300))
    for part in ("network", "components/cell_models", "components/synaptic_models", "inputs"):
        (folder / part).mkdir(parents=True)
    for name, (_, _, constants) in CELLS.items():
        model = {**({} if options.alone else {"V_m": constants["E_L"], **constants}), **options.constants}
        (folder / "components/cell_models" / f"{name}.json").write_text(json.dumps(model))
    for name in ("ExcToExc", "ExcToInh", "InhToExc", "InhToInh"):
        (folder / "components/synaptic_models" / f"{name}.json").write_text("{}")
    types = np.repeat(np.arange(len(counts)), list(counts.values()))
    excitatory = np.array([excites for _, excites, _ in CELLS.values()])[types]
    _nodes(folder, "internal", types + 100, [
        ["node_type_id", "model_type", "model_template", "model_name", "ei", "dynamics_params"],
        *([100 + n, "point_process", f"nest:{options.template}", name, "ei"[not CELLS[name][1]], f"{name}.json"]
          for n, name in enumerate(CELLS)),
    ])  # fmt: skip
    _nodes(folder, "external", np.full(VIRTUAL, 100), [["node_type_id", "model_type"], [100, "virtual"]])
    inside = {key: (p, options.scale * w) for key, (p, w) in WIRED.items()}
    pairs = [_drawn(excitatory == a, excitatory == b, *inside[a, b], random) for a, b in inside]
    kinds = ["ExcToExc", "ExcToInh", "InhToExc", "InhToInh"]
    _edges(folder, "internal", "internal", pairs, [(kind, "static_synapse") for kind in kinds], options)
    everyone = np.full(VIRTUAL, True)
    pairs = [_drawn(everyone, excitatory == b, p, options.scale * w, random) for b, (p, w) in OUTSIDE.items()]
    _edges(folder, "external", "internal", pairs, [(kind, "static_synapse") for kind in kinds[:2]], options)
    _spikes(folder / "inputs/external_spike_trains.h5", options, random)
    return _configurations(folder, options)


def _drawn(pre: np.ndarray, post: np.ndarray, probability: float, weight: float, random: Any) -> Any:
    """(source, target, weight) of pairs that are joined."""
    joined = (random.random((len(post), len(pre))) < probability) & post[:, None] & pre
    target, source = np.nonzero(joined)
    return source, target, np.full(len(source), weight)


def _table(path: Path, rows: list[list[Any]]) -> None:
    path.write_text("\n".join(" ".join(map(str, cells)) for cells in rows) + "\n")


def _nodes(folder: Path, name: str, types: np.ndarray, rows: list[list[Any]]) -> None:
    _table(folder / f"network/{name}_node_types.csv", rows)
    with h5py.File(folder / f"network/{name}_nodes.h5", "w") as file:
        group = file.create_group(f"nodes/{name}")
        count = len(types)
        group["node_id"], group["node_type_id"] = np.arange(count, dtype="u8"), types.astype("u8")
        group["node_group_id"], group["node_group_index"] = np.zeros(count, "u8"), np.arange(count, dtype="u8")
        group.create_group("0")


def _edges(folder: Path, pre: str, post: str, pairs: list[Any], kinds: list[tuple[str, str]], options: Options) -> None:
    """One type for each of `pairs`."""
    name = f"{pre}_{post}"
    heads = ["edge_type_id", "target_query", "source_query", "delay", "dynamics_params", "model_template"]
    rows = [[100 + n, "*", "*", options.delay, f"{kind}.json", model] for n, (kind, model) in enumerate(kinds)]
    _table(folder / f"network/{name}_edge_types.csv", [heads, *rows])
    source, target, weight = (np.concatenate(each) for each in zip(*pairs, strict=True))
    types = np.repeat(100 + np.arange(len(pairs)), [len(each[0]) for each in pairs])
    order = np.lexsort((source, target))
    with h5py.File(folder / f"network/{name}_edges.h5", "w") as file:
        group, count = file.create_group(f"edges/{pre}_to_{post}"), len(order)
        for side, population, nodes in (("source", pre, source), ("target", post, target)):
            group[f"{side}_node_id"] = nodes[order].astype("u8")
            group[f"{side}_node_id"].attrs["node_population"] = population
        group["edge_type_id"] = types[order].astype("u8")
        group["edge_group_id"], group["edge_group_index"] = np.zeros(count, "u8"), np.arange(count, dtype="u8")
        group["0/syn_weight"] = weight[order]


def _spikes(path: Path, options: Options, random: Any) -> None:
    """Poisson spikes at the ends of steps, from the first on."""
    steps = round(options.duration / options.dt)
    when, who = np.nonzero(random.random((steps, VIRTUAL)) < RATE * options.dt * 1e-3)
    with h5py.File(path, "w") as file:
        group = file.create_group("spikes/external")
        group.attrs["sorting"] = "by_time"
        group["node_ids"], group["timestamps"] = who.astype("u8"), np.round((when + 1) * options.dt, 9)
        group["timestamps"].attrs["units"] = "ms"


def _configurations(folder: Path, options: Options) -> Path:
    names = [("nodes", "node", ("internal", "external"))]
    names += [("edges", "edge", ("internal_internal", "external_internal"))]
    networks = {
        kind: [
            {f"{kind}_file": f"$NETWORK_DIR/{n}_{kind}.h5", f"{one}_types_file": f"$NETWORK_DIR/{n}_{one}_types.csv"}
            for n in each
        ]
        for kind, one, each in names
    }
    circuit = {
        "manifest": {"$NETWORK_DIR": "./network", "$COMPONENT_DIR": "./components"}, "networks": networks,
        "components": {
            "point_neuron_models_dir": "$COMPONENT_DIR/cell_models",
            "synaptic_models_dir": "$COMPONENT_DIR/synaptic_models",
        },
    }  # fmt: skip
    spikes = {"input_type": "spikes", "module": "h5", "node_set": "external"}
    simulation = {
        "manifest": {"$BASE_DIR": ".", "$INPUT_DIR": "$BASE_DIR/inputs"}, "network": "$BASE_DIR/circuit_config.json",
        "run": {"tstop": options.duration, "dt": options.dt}, "target_simulator": "NEST",
        "inputs": {"trains": {**spikes, "input_file": "$INPUT_DIR/external_spike_trains.h5"}},
    }  # fmt: skip
    (folder / "circuit_config.json").write_text(json.dumps(circuit, indent=2))
    (folder / "simulation_config.json").write_text(json.dumps(simulation, indent=2))
    return folder / "simulation_config.json"


def main() -> None:
    """Write, say where."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cells", type=int, default=300)
    options = parser.parse_args()
    print(write(options.folder, Options(cells=options.cells)))


if __name__ == "__main__":
    main()
