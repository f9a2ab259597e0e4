"""A run in the files of others: NWB and SONATA from its trace, NIR from its network."""

import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import h5py

from neurosbd.errors import RunError, UsageError, nearest
from neurosbd.files.writing import legal_path
from neurosbd.interchange import to_nir
from neurosbd.interchange.nir_files import nir_package
from neurosbd.interchange.nir_neurons import Resets
from neurosbd.runs.run import Run, open_run
from neurosbd.tracefiles.recovery import copy
from neurosbd.tracefiles.sonata import write_sonata


def export(run: Run | str | Path, to: str, path: str | Path, resets: Resets | None = None) -> Path:
    """Write what a run left behind into one file of another format; see docs/traces.md, "Export".

    Args:
        run: a run, its directory, or a trace file.
        to: 'nwb' (the trace; for pynwb, MatNWB, neo), 'sonata' (spikes, potentials, rates, edges with weights; for
            libsonata) or 'nir' (the network of the last checkpoint; NIR of Pedersen et al. 2024).
        path: of the new file.
        resets: for 'nir' alone: what becomes of neurons with a reset that NIR does not have, 'loop' or 'to_value'; see
            `neurosbd.to_nir`. None: they are refused.
    Returns:
        The path.
    Raises:
        UsageError: if `to` is no format, `resets` is not for it, the file is there already or cannot be written,
            nothing was recorded, or NIR cannot say what the network is. Nothing is left behind then.
    """
    path = legal_path(path)
    if to not in FORMATS:
        raise UsageError(f"there is no format '{to}' to export to{nearest(to, FORMATS)}")
    if resets is not None and to != "nir":
        raise UsageError(f"resets = '{resets}' is for NIR alone, which lacks some; leave it out for '{to}'")
    write = partial(_nir, resets=resets) if to == "nir" else FORMATS[to]
    if os.path.lexists(path):
        raise UsageError(f"{path}: exists already; remove it or choose another name")
    run = run if isinstance(run, Run) else open_run(run)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
            made = Path(folder) / path.name
            write(run, made)
            os.replace(made, path)
    except OSError as problem:
        raise UsageError(f"{path}: cannot be written ({problem.strerror or problem})") from None
    except RuntimeError as problem:  # of HDF5, when the disk is full
        raise UsageError(f"{path}: cannot be written ({problem})") from None
    return path


def _nwb(run: Run, path: Path) -> None:
    """The trace anew: all that is committed, with its tables."""
    trace = run.trace
    try:
        copy(trace, path, remark="" if trace.complete else "; the run did not come to its end").close(complete=True)
    except RunError as problem:
        raise UsageError(str(problem)) from None


def _sonata(run: Run, path: Path) -> None:
    trace = run.trace
    with h5py.File(path, "w", libver=("earliest", "v110")) as file:
        write_sonata(trace, file)


def _nir(run: Run, path: Path, resets: Resets | None = None) -> None:
    nir = nir_package()
    nir.write(path, to_nir(run.network(), resets=resets))


FORMATS: dict[str, Callable[[Run, Path], None]] = {"nwb": _nwb, "sonata": _sonata, "nir": _nir}
