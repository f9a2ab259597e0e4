"""neurosbd: networks that learn without backpropagation, by broadcast of the score and decorrelation.

The names below are the public interface; they are imported on first use, so that `import neurosbd`
and the command line stay quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neurosbd.allocator import keep_freed_memory
    from neurosbd.config.definition import Definition
    from neurosbd.config.resolve import load_model
    from neurosbd.datasets import Dataset, load_data
    from neurosbd.errors import RunError, UsageError, UsageWarning
    from neurosbd.exporting import export
    from neurosbd.interchange import from_nir, from_torch, to_nir
    from neurosbd.learning.simulation import unroll
    from neurosbd.losses.admissibility import Admissibility, admissible
    from neurosbd.network import Connection, Network, Population
    from neurosbd.report.analysing import Report, analyse
    from neurosbd.report.comparing import Comparison, compare
    from neurosbd.tracefiles import NotRecorded, Signal, Trace
    from neurosbd.training.experiments import simulate
    from neurosbd.training.fit import fit
    from neurosbd.training.health import Health, health
    from neurosbd.training.run import Run, open_run

__version__ = "0.1.0"

_HOME = {
    "Admissibility": "losses.admissibility",
    "Comparison": "report.comparing",
    "Connection": "network",
    "Dataset": "datasets",
    "Definition": "config.definition",
    "Health": "training.health",
    "Network": "network",
    "NotRecorded": "tracefiles",
    "Population": "network",
    "Report": "report.analysing",
    "Run": "training.run",
    "RunError": "errors",
    "Signal": "tracefiles",
    "Trace": "tracefiles",
    "UsageError": "errors",
    "UsageWarning": "errors",
    "admissible": "losses.admissibility",
    "analyse": "report.analysing",
    "compare": "report.comparing",
    "export": "exporting",
    "fit": "training.fit",
    "from_nir": "interchange",
    "from_torch": "interchange",
    "health": "training.health",
    "keep_freed_memory": "allocator",
    "load_data": "datasets",
    "load_model": "config.resolve",
    "open_run": "training.run",
    "simulate": "training.experiments",
    "to_nir": "interchange",
    "unroll": "learning.simulation",
}

_RENAMED = {"run_experiment": "simulate"}

__all__ = [
    "Admissibility", "Comparison", "Connection", "Dataset", "Definition", "Health", "Network", "NotRecorded",
    "Population", "Report", "Run", "RunError", "Signal", "Trace", "UsageError", "UsageWarning", "admissible",
    "analyse", "compare", "export", "fit", "from_nir", "from_torch", "health", "keep_freed_memory", "load_data",
    "load_model", "open_run", "simulate", "to_nir", "unroll",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        hint = f"; it is called '{_RENAMED[name]}' now" if name in _RENAMED else ""
        raise AttributeError(f"module 'neurosbd' has no attribute '{name}'{hint}")
    value = getattr(import_module(f"neurosbd.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
