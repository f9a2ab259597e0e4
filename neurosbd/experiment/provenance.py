"""Where a result comes from: versions, commit, machine."""

import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch


def provenance(device: torch.device) -> dict[str, Any]:
    """Versions, git commit of the engine (if it is a checkout), device and threads."""
    versions = {name: metadata.version(name) for name in ("torch", "numpy", "pydantic")}
    try:
        versions["neurosbd"] = metadata.version("neurosbd")
    except metadata.PackageNotFoundError:  # a plain checkout
        versions["neurosbd"] = "checkout"
    return {
        "versions": {"python": platform.python_version(), **versions},
        "commit": _commit(),
        "device": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else (platform.processor() or platform.machine()),
        "device_type": device.type,
        "threads": torch.get_num_threads(),
    }


def _commit() -> str | None:
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None
    try:
        told = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40"],
            capture_output=True, text=True, timeout=5, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return told.stdout.strip()


def peak_memory(device: torch.device) -> int:
    """Largest memory so far, bytes: of the device's allocator, or of the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource
    import sys

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
