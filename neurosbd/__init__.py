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
    from neurosbd.experiment.simulate import run_experiment
    from neurosbd.interchange import from_nir, from_torch, to_nir
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
    "from_nir": "interchange",
    "from_torch": "interchange",
    "load_data": "datasets",
    "load_model": "experiment.resolve",
    "open_run": "experiment.run",
    "run_experiment": "experiment.simulate",
    "simulate": "simulation",
    "to_nir": "interchange",
}

__all__ = [
    "Connection", "Dataset", "Definition", "Network", "Population", "Run", "RunError", "UsageError",
    "fit", "from_nir", "from_torch", "load_data", "load_model", "open_run", "run_experiment", "simulate", "to_nir",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'neurosbd' has no attribute '{name}'")
    value = getattr(import_module(f"neurosbd.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
