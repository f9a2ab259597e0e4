"""What NEST makes of the networks of sonata_network.py: the figures that tests/test_sonata.py keeps.

    python benchmarks/nest_sonata.py        # with nest (3.10.0 made the figures), h5py, pandas and numpy

NEST's own SonataNetwork reads the files: configuration, nodes, constants, spikes and types of edges. Its kernel reads
the edges themselves where it was built with HDF5; the wheel is not, so that here they are read in Python and connected
one by one. Printed, as JSON, of each network: how many spikes its cells have, a sum over steps and nodes, and the first
step of each node.
"""

import importlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from sonata_network import Options, write

SMALL = Options(cells=30, dt=0.5, duration=60.0, scale=4.0)
CONDUCTANCES = {
    "C_m": 200.0,
    "g_L": 10.0,
    "E_L": -70.0,
    "V_m": -70.0,
    "t_ref": 2.0,
    "tau_syn_ex": 2.0,
    "tau_syn_in": 4.0,
}
NETWORKS = {  # template: how the network is written
    "iaf_psc_alpha": SMALL,
    "iaf_psc_exp": SMALL._replace(template="iaf_psc_exp", constants={**SMALL.constants, "V_m": -60.0, "I_e": 30.0}),
    "iaf_psc_delta": SMALL._replace(template="iaf_psc_delta", constants={"I_e": 20.0}, scale=0.03),
    "izhikevich": SMALL._replace(template="izhikevich", constants={"I_e": 2.0}, scale=0.02, alone=True),
    "iaf_cond_alpha": SMALL._replace(
        template="iaf_cond_alpha", constants=CONDUCTANCES, scale=0.05, alone=True, dt=0.25, duration=50.0
    ),
}


def spikes(options: Options) -> list[tuple[int, int]]:
    """(step, node) of every spike of the cells, as ours are counted: the step that ends at the time."""
    nest: Any = importlib.import_module("nest")
    reader: Any = importlib.import_module("nest.lib.hl_api_sonata")
    reader.have_hdf5 = True  # of the kernel; what is read here needs h5py alone
    nest.set_verbosity("M_ERROR")
    nest.ResetKernel()
    with tempfile.TemporaryDirectory() as place:
        config = write(Path(place) / "net", options)
        network = nest.SonataNetwork(config.with_name("circuit_config.json"), config)
        nodes = network.Create()
        for edges in network._create_graph_specs()["edges"]:
            connect(nest, nodes, edges)
        recorder = nest.Create("spike_recorder")
        nest.Connect(nodes["internal"], recorder)
        nest.Simulate(options.duration)
        first = nodes["internal"][0].global_id
        found = zip(recorder.events["times"], recorder.events["senders"], strict=True)
        return sorted((round(time / options.dt) - 1, int(node) - first) for time, node in found)


def connect(nest: Any, nodes: dict[str, Any], edges: dict[str, Any]) -> None:
    """Edges of a file, each with the constants of its type that NEST has read."""
    with h5py.File(edges["edges_file"]) as file:
        groups: Any = file["edges"]
        for group in groups.values():
            ids = [group[f"{side}_node_id"] for side in ("source", "target")]
            pre, post = (np.array(nodes[each.attrs["node_population"]].tolist())[each[:]] for each in ids)
            types, weights = group["edge_type_id"][:].astype(str), group["0/syn_weight"][:]
            for type_id, how in edges["syn_specs"].items():
                here, static = types == type_id, {k: v for k, v in how.items() if k == "synapse_model"}
                spec = {"weight": weights[here], "delay": np.full(here.sum(), how["delay"]), **static}
                if here.any():
                    nest.Connect(pre[here], post[here], "one_to_one", spec)


def weighted(found: list[tuple[int, int]]) -> int:
    """A sum that another step or node of one spike changes."""
    return sum((step + 1) * (node + 1) ** 2 for step, node in found)


def first_of_each(found: list[tuple[int, int]]) -> list[int]:
    """Steps of the first spikes of the nodes that spike, in the order of the nodes."""
    return [min(step for step, node in found if node == one) for one in sorted({node for _, node in found})]


def main() -> None:
    """Run all, print."""
    figures = {}
    for name, options in NETWORKS.items():
        found = spikes(options)
        figures[name] = {"count": len(found), "sum": weighted(found), "first": first_of_each(found)}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
