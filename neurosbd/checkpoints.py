"""Checkpoints: everything that a run needs to go on bit for bit. Layer 4.

Tensors and plain Python only, so that reading one never runs code (`weights_only=True`).
"""

from pathlib import Path
from typing import Any

import torch

from neurosbd.errors import UsageError
from neurosbd.files import write_atomic

FORMAT = 1


def save(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint atomically: a run killed meanwhile still has the one before."""
    write_atomic(path, lambda stream: torch.save({"format": FORMAT, **content}, stream))


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Raises:
        UsageError: if it is missing, corrupt, of another format, or holds more than tensors and plain values.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no checkpoint") from None
    except Exception as problem:  # torch's reader fails in many ways on bytes that are not its own
        first = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        raise UsageError(f"{path}: not a readable checkpoint ({first})") from None
    if not isinstance(content, dict) or "format" not in content:
        raise UsageError(f"{path}: not a checkpoint of neurosbd")
    if content["format"] != FORMAT:
        raise UsageError(f"{path}: has format {content['format']}, this version of neurosbd reads format {FORMAT}")
    return content
