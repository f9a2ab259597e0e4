"""neurosbd: networks that learn without backpropagation, by broadcast of the score and decorrelation.

The names below are the public interface; they are imported on first use, so that `import neurosbd`
and the command line stay quick.

Tables are read like dictionaries, name -> maker: `neurosbd.rules["sbd"](delay=1)`, `neurosbd.neurons["lif"]()`.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import neurosbd.tables as _tables
    from neurosbd.allocator import keep_freed_memory
    from neurosbd.config.definition import Definition
    from neurosbd.config.resolve import load_model
    from neurosbd.datasets import Dataset, load_data
    from neurosbd.errors import RunError, UsageError, UsageWarning
    from neurosbd.experiments.free_run import run
    from neurosbd.experiments.simulate import simulate
    from neurosbd.experiments.simulate_seeds import simulate_seeds
    from neurosbd.interchange import from_nir, from_sonata, from_torch, to_nir
    from neurosbd.learning.batch import Batch
    from neurosbd.learning.simulation import unroll
    from neurosbd.losses.admissibility import Admissibility, admissible
    from neurosbd.network.network import Connection, Network, Population
    from neurosbd.report.analysing import Report, analyse
    from neurosbd.report.comparing import Comparison, compare
    from neurosbd.report.predicting import Predictions, predict
    from neurosbd.rewards import Reinforcement
    from neurosbd.rules.custom_loop import learner
    from neurosbd.runs.exporting import export
    from neurosbd.runs.run import Run, open_run
    from neurosbd.spike_times import SpikeTimes
    from neurosbd.stimuli import Stimulation
    from neurosbd.tables import register
    from neurosbd.tracefiles import NotRecorded, Signal, Trace
    from neurosbd.training.fit import fit
    from neurosbd.training.fit_seeds import fit_seeds
    from neurosbd.training.health import Health, health

    answers: Mapping[str, Callable[..., _tables.Answer]]
    connections: Mapping[str, Callable[..., _tables.Geometry]]
    constraints: Mapping[str, Callable[..., _tables.Constraint]]
    distributions: Mapping[str, Callable[..., _tables.Distribution]]
    encoders: Mapping[str, Callable[..., _tables.Encoder]]
    expansions: Mapping[str, Callable[..., _tables.Expansion]]
    homeostases: Mapping[str, Callable[..., _tables.Homeostasis]]
    initialisers: Mapping[str, Callable[..., _tables.Initialiser]]
    layouts: Mapping[str, Callable[..., _tables.Layout]]
    losses: Mapping[str, Callable[..., _tables.Described]]
    measures: Mapping[str, Callable[..., object]]
    neuromodulators: Mapping[str, Callable[..., _tables.Neuromodulator]]
    neurons: Mapping[str, Callable[..., _tables.Neuron]]
    optimizers: Mapping[str, Callable[..., _tables.OptimizerChoice]]
    plasticities: Mapping[str, Callable[..., _tables.Plasticity]]
    poolings: Mapping[str, Callable[..., _tables.Pooling]]
    processes: Mapping[str, Callable[..., _tables.Process]]
    protocols: Mapping[str, Callable[..., _tables.Protocol]]
    recipes: Mapping[str, Callable[..., object]]
    rewards: Mapping[str, Callable[..., _tables.Contingency]]
    rules: Mapping[str, Callable[..., _tables.Rule]]
    schedules: Mapping[str, Callable[..., _tables.Schedule]]
    stimuli: Mapping[str, Callable[..., _tables.Stimulus]]
    short_terms: Mapping[str, Callable[..., _tables.ShortTerm]]
    surrogates: Mapping[str, Callable[..., _tables.Surrogate]]
    synapses: Mapping[str, Callable[..., _tables.Synapse]]
    tasks: Mapping[str, Callable[..., _tables.Task]]
    upkeeps: Mapping[str, Callable[..., _tables.Upkeep]]
    wirings: Mapping[str, Callable[..., _tables.Wiring]]

__version__ = "0.1.0"

_HOME = {
    "Admissibility": "losses.admissibility",
    "Batch": "learning.batch",
    "Comparison": "report.comparing",
    "Connection": "network.network",
    "Dataset": "datasets",
    "Definition": "config.definition",
    "Health": "training.health",
    "Network": "network.network",
    "NotRecorded": "tracefiles",
    "Population": "network.network",
    "Predictions": "report.predicting",
    "Reinforcement": "rewards",
    "Report": "report.analysing",
    "Run": "runs.run",
    "RunError": "errors",
    "Signal": "tracefiles",
    "SpikeTimes": "spike_times",
    "Stimulation": "stimuli",
    "Trace": "tracefiles",
    "UsageError": "errors",
    "UsageWarning": "errors",
    "admissible": "losses.admissibility",
    "analyse": "report.analysing",
    "compare": "report.comparing",
    "export": "runs.exporting",
    "fit": "training.fit",
    "fit_seeds": "training.fit_seeds",
    "from_nir": "interchange",
    "from_sonata": "interchange",
    "from_torch": "interchange",
    "health": "training.health",
    "keep_freed_memory": "allocator",
    "learner": "rules.custom_loop",
    "load_data": "datasets",
    "load_model": "config.resolve",
    "open_run": "runs.run",
    "register": "tables",
    "predict": "report.predicting",
    "run": "experiments.free_run",
    "simulate": "experiments.simulate",
    "simulate_seeds": "experiments.simulate_seeds",
    "to_nir": "interchange",
    "unroll": "learning.simulation",
}

_TABLES = (
    "homeostases", "initialisers", "layouts", "optimizers", "plasticities", "poolings", "processes",
    "protocols", "recipes", "schedules", "short_terms", "upkeeps", "wirings",
)  # fmt: skip
_MODULES = (  # that are read like the table at their heart; one of functions
    "answers", "connections", "constraints", "distributions", "encoders", "expansions", "losses", "measures",
    "neuromodulators", "neurons", "rewards", "rules", "spike_statistics", "stimuli", "surrogates", "synapses",
    "tasks",
)  # fmt: skip

_RENAMED = {"run_experiment": "simulate"}

__all__ = [
    "Admissibility", "Batch", "Comparison", "Connection", "Dataset", "Definition", "Health", "Network",
    "NotRecorded", "Population", "Predictions", "Reinforcement", "Report", "Run", "RunError", "Signal",
    "SpikeTimes", "Stimulation", "Trace", "UsageError", "UsageWarning", "admissible", "analyse", "compare", "export",
    "fit", "fit_seeds", "from_nir", "from_sonata", "from_torch", "health", "keep_freed_memory", "learner", "load_data",
    "load_model", "open_run", "predict", "register", "run", "simulate", "simulate_seeds", "to_nir", "unroll",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"neurosbd.{name}")
    if name in _TABLES:
        return MappingProxyType(import_module("neurosbd.tables").TABLES[name])
    if name not in _HOME:
        hint = f"; it is called '{_RENAMED[name]}' now" if name in _RENAMED else ""
        raise AttributeError(f"module 'neurosbd' has no attribute '{name}'{hint}")
    value = getattr(import_module(f"neurosbd.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME, *_TABLES, *_MODULES})
