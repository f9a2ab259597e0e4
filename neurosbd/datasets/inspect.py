"""`neurosbd data check`: verify what is there and say what is in it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neurosbd.datasets.definition import DatasetFile, load_file
from neurosbd.datasets.idx import sha256_of_content
from neurosbd.datasets.load import READERS, Dataset, load_data
from neurosbd.datasets.locate import actual, locate, required
from neurosbd.datasets.normalisation import limits, measure
from neurosbd.datasets.samples import EventSamples
from neurosbd.errors import RunError, UsageError
from neurosbd.files.writing import legal_path


@dataclass(frozen=True)
class Report:
    """What a data set holds."""

    name: str
    folder: str
    verified: int  # files whose content has the published sha256
    unverified: int  # files without a published one
    lines: tuple[str, ...]


_LISTED = 40  # columns, at most; and classes that are counted one by one, half as many


def inspect(name: str, root: str | Path | None = None, settings: Mapping[str, object] | None = None) -> Report:
    """Verify digests, decode everything, count.

    Args:
        name, root: as in `load_data`.
        settings: none but {"data.columns": ...}, as in a model.

    Raises:
        UsageError: if a file is missing, truncated or corrupt.
        RunError: if the content of a file is not the published one.
    """
    own = legal_path(name).is_dir() or Path(name).suffix.lower() in (".npz", ".csv")
    definition = None if own else load_file(name, READERS)
    folder = locate(definition, root) if definition is not None and definition.files else Path(root or name)
    files = required(definition) if definition is not None else []
    verified = sum(_verified(definition, folder, file) for file in files) if definition is not None else 0
    data = load_data(name, root, columns=_asked(settings or {}))
    what = "classes" if data.kind == "classes" else f"values to predict ({data.kind})"
    called = data.classes or data.variables
    names = ", ".join(called[:12]) + (", ..." if len(called) > 12 else "")
    lines = [f"size {list(data.size)}, {len(called)} {what}: {names}"]
    for split, samples in (("train", data.train), ("test", data.test)):
        lines.append(f"{split}: {len(samples):,} examples, {_spread(samples.targets, data)}")
        lines += _counts(split, samples.targets, data)
        if isinstance(samples, EventSamples):
            events = np.diff(samples.offsets)
            lines.append(
                f"{split}: {events.sum():,} events, {events.min():,}..{events.max():,} per recording, "
                f"median {np.median(events):,.0f}"
            )
    lines += _timing(data) if data.duration else _columns(data) if data.columns else _normalisation(data)
    return Report(data.name, str(folder), verified, len(files) - verified, tuple(lines))


def _spread(targets: np.ndarray, data: Dataset) -> str:
    """How many there are of each class, or the range of the values."""
    if data.kind == "classes":
        counts = np.bincount(targets, minlength=len(data.classes))
        return f"{counts.min()}..{counts.max()} per class"
    mean, std = targets.mean(dtype=np.float64), targets.std(dtype=np.float64)
    return f"targets {targets.min():.10g}..{targets.max():.10g}, mean {mean:.8g}, std {std:.4g}"


def _counts(split: str, targets: np.ndarray, data: Dataset) -> list[str]:
    """Every class with its examples, if they are not all alike."""
    if data.kind != "classes" or len(data.classes) > _LISTED // 2:
        return []
    counts = np.bincount(targets, minlength=len(data.classes)).tolist()
    if min(counts) == max(counts):
        return []
    return [f"{split}: " + ", ".join(f"{name} {count:,}" for name, count in zip(data.classes, counts, strict=True))]


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


def _asked(settings: Mapping[str, object]) -> tuple[str, ...]:
    """The columns that settings ask for."""
    for key in settings:
        if key != "data.columns":
            raise UsageError(f"--set {key}: a check takes no other setting than data.columns")
    asked = settings.get("data.columns", ())
    asked = (asked,) if isinstance(asked, str) else asked
    if not (isinstance(asked, list | tuple) and all(isinstance(name, str) for name in asked)):
        raise UsageError(f'--set data.columns={asked}: give a list of names, such as ["a", "b"], or ["-a"]')
    return tuple(asked)


def _columns(data: Dataset) -> list[str]:
    """A line per column of a table: what standardises it, and its range in the training split."""
    low, high = limits(data.train.values)
    width = min(32, max(6, *(len(name) for name in data.columns[:_LISTED])))
    lines = [f"{'column':<{width}}  {'mean':>16}  {'std':>12}  range of the training split"]
    for name, mean, std, least, most in zip(data.columns[:_LISTED], data.mean, data.std, low, high, strict=False):
        shown = "constant" if math.isinf(std) else f"{std:.6g}"
        lines.append(f"{name[:width]:<{width}}  {mean:>16.10g}  {shown:>12}  {least:.10g} .. {most:.10g}")
    more = len(data.columns) - _LISTED
    lines += [f"and {more:,} columns more, {sum(map(math.isinf, data.std))} constant in all"] if more > 0 else []
    left = ", ".join(name or "(no name)" for name in data.dropped[:_LISTED])
    return lines + ([f"left out by data.columns ({len(data.dropped)}): {left}"] if left else [])


def _normalisation(data: Dataset) -> list[str]:
    mean, std = measure(data.train.values, data.maximum)
    if len(mean) > 4:
        return []
    spread = ("constant" if math.isinf(s) else f"{s:.4f}" for s in std)  # a constant is divided by infinity
    return ["train mean " + " ".join(f"{m:.4f}" for m in mean) + ", std " + " ".join(spread)]
