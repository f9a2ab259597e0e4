"""neurosbd: networks that learn without backpropagation, by broadcast of the score and decorrelation.

The names below are the public interface; they are imported on first use, so that `import neurosbd`
and the command line stay quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neurosbd.allocator import keep_freed_memory
    from neurosbd.datasets import Dataset, load_data
    from neurosbd.errors import RunError, UsageError, UsageWarning
    from neurosbd.experiment.definition import Definition
    from neurosbd.experiment.fit import fit
    from neurosbd.experiment.health import Health, health
    from neurosbd.experiment.resolve import load_model
    from neurosbd.experiment.run import Run, open_run
    from neurosbd.experiment.simulate import run_experiment
    from neurosbd.exporting import export
    from neurosbd.interchange import from_nir, from_torch, to_nir
    from neurosbd.losses.admissibility import Admissibility, admissible
    from neurosbd.network import Connection, Network, Population
    from neurosbd.report.analysing import Report, analyse
    from neurosbd.report.comparing import Comparison, compare
    from neurosbd.simulation import simulate
    from neurosbd.tracefiles import NotRecorded, Signal, Trace

__version__ = "0.1.0"

_HOME = {
    "Admissibility": "losses.admissibility",
    "Comparison": "report.comparing",
    "Connection": "network",
    "Dataset": "datasets",
    "Definition": "experiment.definition",
    "Health": "experiment.health",
    "Network": "network",
    "NotRecorded": "traces",
    "Population": "network",
    "Report": "report.analysing",
    "Run": "experiment.run",
    "RunError": "errors",
    "Signal": "traces",
    "Trace": "traces",
    "UsageError": "errors",
    "UsageWarning": "errors",
    "admissible": "losses.admissibility",
    "analyse": "report.analysing",
    "compare": "report.comparing",
    "export": "exporting",
    "fit": "experiment.fit",
    "from_nir": "interchange",
    "from_torch": "interchange",
    "health": "experiment.health",
    "keep_freed_memory": "allocator",
    "load_data": "datasets",
    "load_model": "experiment.resolve",
    "open_run": "experiment.run",
    "run_experiment": "experiment.simulate",
    "simulate": "simulation",
    "to_nir": "interchange",
}

__all__ = [
    "Admissibility", "Comparison", "Connection", "Dataset", "Definition", "Health", "Network", "NotRecorded",
    "Population", "Report", "Run", "RunError", "Signal", "Trace", "UsageError", "UsageWarning", "admissible",
    "analyse", "compare", "export", "fit", "from_nir", "from_torch", "health", "keep_freed_memory", "load_data",
    "load_model", "open_run", "run_experiment", "simulate", "to_nir",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'neurosbd' has no attribute '{name}'")
    value = getattr(import_module(f"neurosbd.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
