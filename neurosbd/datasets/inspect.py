"""`neurosbd data check`: verify what is there and say what is in it."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neurosbd.datasets.definition import load_file
from neurosbd.datasets.idx import content
from neurosbd.datasets.load import READERS, load_data, measure
from neurosbd.datasets.locate import locate
from neurosbd.errors import RunError


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
    definition = load_file(name, READERS) if not (Path(name).is_dir() or Path(name).suffix == ".npz") else None
    folder = locate(definition, root) if definition is not None and definition.files else Path(root or name)
    verified = 0
    files = [n for names in definition.files.values() for n in names] if definition is not None else []
    for file in files:
        expected = definition.sha256.get(file) if definition is not None else None
        if expected is None:
            continue
        found = hashlib.sha256(content(folder / file)).hexdigest()
        if found != expected:
            raise RunError(f"{folder / file}: content has sha256 {found}, published is {expected}; fetch it again")
        verified += 1
    data = load_data(name, root)
    mean, std = measure(data.train.values, data.maximum)
    lines = [
        f"size {list(data.size)}, {len(data.classes)} classes: {', '.join(data.classes[:12])}"
        + (", ..." if len(data.classes) > 12 else "")
    ]
    for split, samples in (("train", data.train), ("test", data.test)):
        counts = np.bincount(samples.labels, minlength=len(data.classes))
        lines.append(f"{split}: {len(samples.labels):,} examples, {counts.min()}..{counts.max()} per class")
    if len(mean) <= 4:
        lines.append("train mean " + " ".join(f"{m:.4f}" for m in mean) + ", std " + " ".join(f"{s:.4f}" for s in std))
    return Report(data.name, str(folder), verified, len(files) - verified, tuple(lines))
