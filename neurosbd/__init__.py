"""neurosbd: networks that learn without backpropagation, by broadcast of the score and decorrelation.

The names below are the public interface; they are imported on first use, so that `import neurosbd`
and the command line stay quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neurosbd.datasets import Dataset, load_data
    from neurosbd.errors import RunError, UsageError
    from neurosbd.experiment.definition import Definition
    from neurosbd.experiment.fit import fit
    from neurosbd.experiment.resolve import load_model
    from neurosbd.experiment.run import Run, open_run
    from neurosbd.network import Connection, Network, Population
    from neurosbd.simulation import simulate

__version__ = "0.1.0"

_HOME = {
    "Connection": "network",
    "Dataset": "datasets",
    "Definition": "experiment.definition",
    "Network": "network",
    "Population": "network",
    "Run": "experiment.run",
    "RunError": "errors",
    "UsageError": "errors",
    "fit": "experiment.fit",
    "load_data": "datasets",
    "load_model": "experiment.resolve",
    "open_run": "experiment.run",
    "simulate": "simulation",
}

__all__ = [
    "Connection", "Dataset", "Definition", "Network", "Population", "Run", "RunError", "UsageError",
    "fit", "load_data", "load_model", "open_run", "simulate",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'neurosbd' has no attribute '{name}'")
    value = getattr(import_module(f"neurosbd.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
