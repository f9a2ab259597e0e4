"""Files of free runs: models with stimuli and rewards, spikes of every kind of file, and what a run leaves behind."""

import os
import shutil
import signal
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import sonata_network
import torch

import neurosbd
from faults.formats import Format
from faults.runfiles import contents
from neurosbd.cli.catalogue import show
from neurosbd.experiments.free_session import FreeSession
from neurosbd.files import library
from neurosbd.runs.loggers import Event, NullLogger
from neurosbd.stimuli.spike_files import read_spikes

RUN = Path("run")
MODEL = """
about = "spikes of a file reach a network with drawn delays and lists of synapses"
source = "none"
simulation = { duration = "60 ms", report = "20 ms" }
stimulus = [
    { population = "source", kind = "spikes", file = "FILE" },
    { population = "exc", kind = "noise_current", mean = 0.06, std = 0.1, tau = "5 ms", start = "2 ms" },
]
reward = [{ kind = "times", times = ["10 ms", "30 ms"], delay = "5 ms", longest = "9 ms", tau = "10 ms" }]
rule = { kind = "RULE" }
training = { optimizer = { kind = "adam", lr = 1e-3 } }
record = { signals = ["*.spikes", "exc.v", "exc->exc.weight"] }
connection = [
    { pre = "source", post = "exc", kind = "dense", weight = { kind = "constant", value = 0.3 }, plastic = false },
    { pre = "exc", post = "exc", kind = "dense", sparsity = 0.5, storage = "sparse", delay = { kind = "uniform", low = "1 ms", high = "3 ms" }, weight = { kind = "constant", value = 0.06 }, constraints = [{ kind = "bounds", lower = 0.0, upper = 0.1 }] },
]
[population]
source = { size = [6], neuron = "relay" }
exc = { size = [8], neuron = { kind = "lif", tau_mem = "20 ms", refractory = "3 ms" } }
"""  # noqa: E501
ARRAYS = """
simulation = { duration = "10 ms" }
[[connection]]
pre = "source"
post = "exc"
kind = "dense"
plastic = false
weight = FILE_weight
wiring = FILE_joined
delay = FILE_delay
[population]
source = { size = [6], neuron = "relay" }
exc = { size = [8], neuron = { kind = "lif", tau_mem = FILE_tau } }
"""
_TEXT = "text without a checksum: another legal text is another legal content"
_BARE = "values without a checksum: every byte is a legal one"


def _spikes(folder: Path, kind: str) -> None:
    """Thirty spikes of six units, and a model that they reach."""
    rng = np.random.default_rng(0)
    times, units, path = np.sort(rng.uniform(0, 0.05, 30)), rng.integers(0, 6, 30), folder / f"spikes.{kind}"
    if kind == "csv":
        path.write_text("time,unit\n" + "".join(f"{t:.5f},{u}\n" for t, u in zip(times, units, strict=True)))
    elif kind == "npz":
        np.savez_compressed(path, times=times, units=units)
    else:
        with h5py.File(path, "w") as file:
            if kind == "nwb":
                file["units/spike_times"] = times[np.argsort(units, kind="stable")]
                file["units/spike_times_index"] = np.cumsum(np.bincount(units, minlength=6))
                file["units/population"] = ["cells"] * 6
            else:
                file.create_dataset("spikes/cells/timestamps", data=times * 1e3, compression="gzip")
                file["spikes/cells/timestamps"].attrs["units"] = "ms"
                file["spikes/cells/node_ids"] = units.astype(np.uint64)
    _model(folder, path.name, ', source = "cells"' if kind == "nwb" else "")


def _model(folder: Path, file: str, more: str = "", rule: str = "stdp") -> None:
    """Rewards are heard by `rmax` alone, which takes neither lists of synapses nor delays of their own."""
    spikes = f'file = "{file}"{more}' if file else "times = [0.001, 0.012, 0.02, 0.033], units = [0, 1, 2, 5]"
    text = MODEL.replace('file = "FILE"', spikes).replace("RULE", rule)
    if rule == "rmax":
        text = text.replace('storage = "sparse", delay = { kind = "uniform", low = "1 ms", high = "3 ms" }, ', "")
        text = text.replace('kind = "lif"', 'kind = "escape"').replace(', refractory = "3 ms"', "")
    else:
        text = "\n".join(line for line in text.splitlines() if not line.startswith("reward"))
    (folder / f"{rule}.toml").write_text(text)


def spiking_model(folder: Path) -> None:
    """A free run with a table of spikes, lists of synapses and drawn delays."""
    _spikes(folder, "csv")


def _spikes_of(path: Path) -> object:
    return tuple(read_spikes(path, "cells" if path.suffix == ".nwb" else ""))


def _simulated(path: Path) -> object:
    run = neurosbd.simulate("stdp.toml", out=RUN)
    return run.checkpoint()["network"], run.metrics


def _models(folder: Path) -> None:
    _spikes(folder, "csv")
    _model(folder, "spikes.csv", rule="rmax")
    for name in ("balanced-network", "dopamine-conditioning", "tsodyks-trains"):
        shutil.copy(library.find("models", name), folder)


def _begun(path: Path) -> object:
    """What a model resolves to, and the state after its first updates: a legal duration may be long."""
    told = show(str(path))
    definition = neurosbd.load_model(path)
    if definition.simulation is None:
        return told
    session = FreeSession(definition.build(), torch.device("cpu"))
    for _ in range(3):
        if not session.over():
            session.advance()
    return told, session.state_of_parts()["network"]


class StopsAfterOneReport(NullLogger):
    """Asks the process to end when the first report is over."""

    def on_epoch(self, event: Event) -> None:
        """Once."""
        if event["epoch"] == 1:
            os.kill(os.getpid(), signal.SIGTERM)


def make(folder: Path, rule: str = "stdp") -> None:
    """A run that was interrupted after a report of three."""
    _model(folder, "", rule=rule)  # a run knows its files by where they lie, and is damaged elsewhere
    os.chdir(folder)
    neurosbd.simulate(f"{rule}.toml", out=RUN, loggers=[StopsAfterOneReport()])


def _resumed(path: Path) -> object:
    rule = "rmax" if Path("rmax.toml").exists() else "stdp"
    run = neurosbd.simulate(f"{rule}.toml", out=RUN, resume=True)
    return run.checkpoint()["network"], run.metrics, contents(RUN)


def _opened(path: Path) -> object:
    run = neurosbd.open_run(RUN)
    return run.config, run.metrics, run.result, run.network().state_dict()


def _arrays(folder: Path, kind: str) -> None:
    """A model whose weights, synapses, delays and constants lie in .npz files, packed or not, or in .npy files."""
    rng, names = np.random.default_rng(0), ("weight", "joined", "delay", "tau")
    values = (rng.uniform(0.1, 0.5, (8, 6)), rng.random((8, 6)) < 0.7, rng.integers(1, 4, (8, 6)) * 1e-3,
              rng.uniform(10e-3, 20e-3, 8))  # fmt: skip
    text = ARRAYS
    for name, value in zip(names, values, strict=True):
        file = {"npy": f'"{name}.npy"'}.get(kind, f'"arrays.npz", array = "{name}"')
        text = text.replace(f"FILE_{name}", f'{{ kind = "file", file = {file} }}')
        if kind == "npy":
            np.save(folder / f"{name}.npy", value)
    if kind != "npy":
        save: Any = np.savez_compressed if kind == "packed" else np.savez
        save(folder / "arrays.npz", **dict(zip(names, values, strict=True)))
    (folder / "arrays.toml").write_text(text)


def _network_of_arrays(path: Path) -> object:
    network: Any = neurosbd.load_model("arrays.toml").network()
    geometry = network.connections["source->exc"].geometry
    return network.state_dict(), network.populations["exc"].neuron.tau_mem, geometry.lags, geometry.lists


def _sonata(folder: Path) -> None:
    sonata_network.write(folder / "net", sonata_network.Options(cells=10, duration=30.0, dt=1.0))


def _imported(path: Path) -> object:
    """What a damaged network is written as: the model file, all its arrays; it makes a network."""
    model = neurosbd.from_sonata("net", "model")
    neurosbd.load_model(model).network()
    arrays = [dict(np.load(file)) for file in sorted(model.parent.glob("*.npz"))]
    return model.read_text(), [sorted((name, value.tobytes()) for name, value in each.items()) for each in arrays]


_ALL = (_resumed, _resumed, _opened)
FREE = {
    "free.toml": Format(_models, ("*.toml",), (_begun,), _TEXT),
    **{
        f"spikes.{kind}": Format(
            partial(_spikes, kind=kind), (f"spikes.{kind}",), (_spikes_of, _spikes_of, _spikes_of, _simulated),
            _TEXT if kind == "csv" else _BARE,
        )
        for kind in ("csv", "npz", "nwb", "h5")
    },
    **{
        f"arrays.{kind}": Format(
            partial(_arrays, kind=kind), ("*.npy", "*.npz"), (_network_of_arrays,), "" if kind == "packed" else _BARE
        )
        for kind in ("npy", "npz", "packed")
    },
    "sonata.h5": Format(_sonata, ("net/*/*.h5",), (_imported,), _BARE),
    "sonata.json": Format(_sonata, ("net/*.json", "net/components/*/*.json"), (_imported,), _TEXT),
    "sonata.csv": Format(_sonata, ("net/*/*.csv",), (_imported,), _TEXT),
    "free checkpoint.pt": Format(make, ("run/checkpoint.pt",), _ALL),
    "free rewarded.pt": Format(partial(make, rule="rmax"), ("run/checkpoint.pt",), _ALL),
    "free config.json": Format(make, ("run/config.json",), _ALL, _TEXT),
    "free metrics.jsonl": Format(make, ("run/metrics.jsonl",), _ALL, _TEXT),
    "free result.json": Format(make, ("run/result.json",), _ALL, _TEXT),
    "free trace.h5": Format(make, ("run/trace.h5.partial",), (_resumed,)),
}  # fmt: skip
