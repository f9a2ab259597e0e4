"""`neurosbd data check`: verify what is there and say what is in it."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neurosbd.datasets.definition import DatasetFile, load_file
from neurosbd.datasets.idx import sha256_of_content
from neurosbd.datasets.load import READERS, Dataset, load_data, measure
from neurosbd.datasets.locate import actual, locate, required
from neurosbd.datasets.samples import EventSamples
from neurosbd.errors import RunError
from neurosbd.files import legal_path


@dataclass(frozen=True)
class Report:
    """What a data set holds."""

    name: str
    folder: str
    verified: int  # files whose content has the published sha256
    unverified: int  # files without a published one
    lines: tuple[str, ...]


def inspect(name: str, root: str | Path | None = None) -> Report:
    """Verify digests, decode everything, count.

    Raises:
        UsageError: if a file is missing, truncated or corrupt.
        RunError: if the content of a file is not the published one.
    """
    own = legal_path(name).is_dir() or Path(name).suffix in (".npz", ".csv")
    definition = None if own else load_file(name, READERS)
    folder = locate(definition, root) if definition is not None and definition.files else Path(root or name)
    files = required(definition) if definition is not None else []
    verified = sum(_verified(definition, folder, file) for file in files) if definition is not None else 0
    data = load_data(name, root)
    what = "classes" if data.kind == "classes" else f"values to predict ({data.kind})"
    called = data.classes or data.variables
    names = ", ".join(called[:12]) + (", ..." if len(called) > 12 else "")
    lines = [f"size {list(data.size)}, {len(called)} {what}: {names}"]
    for split, samples in (("train", data.train), ("test", data.test)):
        lines.append(f"{split}: {len(samples):,} examples, {_spread(samples.targets, data)}")
        if isinstance(samples, EventSamples):
            events = np.diff(samples.offsets)
            lines.append(
                f"{split}: {events.sum():,} events, {events.min():,}..{events.max():,} per recording, "
                f"median {np.median(events):,.0f}"
            )
    lines += _timing(data) if data.duration else _normalisation(data)
    return Report(data.name, str(folder), verified, len(files) - verified, tuple(lines))


def _spread(targets: np.ndarray, data: Dataset) -> str:
    """How many there are of each class, or the range of the values."""
    if data.kind == "classes":
        counts = np.bincount(targets, minlength=len(data.classes))
        return f"{counts.min()}..{counts.max()} per class"
    return f"targets {targets.min():g}..{targets.max():g}, mean {targets.mean():.4g}, std {targets.std():.4g}"


def _verified(definition: DatasetFile, folder: Path, file: str) -> bool:
    """Whether the content of a file is the published one; False where none is published."""
    expected = definition.sha256.get(file)
    if expected is None:
        return False
    found = sha256_of_content(actual(definition, folder, file))
    if found != expected:
        raise RunError(f"{folder / file}: content has sha256 {found}, published is {expected}; fetch it again")
    return True


def _timing(data: Dataset) -> list[str]:
    return [f"duration {data.duration:.6f} s (longest recording)"]


def _normalisation(data: Dataset) -> list[str]:
    mean, std = measure(data.train.values, data.maximum)
    if len(mean) > 4:
        return []
    spread = ("constant" if math.isinf(s) else f"{s:.4f}" for s in std)  # a constant is divided by infinity
    return ["train mean " + " ".join(f"{m:.4f}" for m in mean) + ", std " + " ".join(spread)]
