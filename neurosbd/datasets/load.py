"""From the name of a data set to tensors: locate, decode or map from the cache, choose a subset."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic

import numpy as np

from neurosbd.datasets.arrays import read_arrays, read_digits, read_table
from neurosbd.datasets.cache import cached
from neurosbd.datasets.cifar import read as read_cifar
from neurosbd.datasets.classes import coverage
from neurosbd.datasets.columns import unusual
from neurosbd.datasets.definition import DatasetFile, check_reader, load_file
from neurosbd.datasets.holdout import hold_out, legal_share
from neurosbd.datasets.idx import read as read_idx
from neurosbd.datasets.locate import locate
from neurosbd.datasets.nmnist import read as read_nmnist
from neurosbd.datasets.normalisation import measure
from neurosbd.datasets.pictures import has_class_folders, read_folder, read_tiny_imagenet
from neurosbd.datasets.processes import generated
from neurosbd.datasets.samples import EventSamples, S, Samples, Splits, check
from neurosbd.datasets.shd import read as read_shd
from neurosbd.datasets.tables import read_csv
from neurosbd.errors import DATA, UsageError, warn
from neurosbd.files import library
from neurosbd.files.writing import legal_path, regular
from neurosbd.seeds import generator
from neurosbd.text import html_table, one_line


def _generate(definition: DatasetFile, folder: Path) -> Splits:
    """Both splits from the process of the definition; nothing is read."""
    if definition.process is None or definition.draws is None:
        raise UsageError(f"{definition.name}: reader 'generated' needs process and draws; see data/spike-counts.toml")
    process, draws = definition.process.build(), definition.draws
    train, test = (
        generated(process, count, generator(draws.seed, "draws", split))
        for split, count in (("train", draws.train), ("test", draws.test))
    )
    return Splits(train, test, kind=definition.targets or "reals", variables=definition.variables)


READERS = {
    "digits": read_digits,
    "idx": read_idx,
    "cifar": read_cifar,
    "tiny_imagenet": read_tiny_imagenet,
    "folder": read_folder,
    "arrays": read_arrays,
    "csv": read_csv,
    "table": read_table,
    "generated": _generate,
    "nmnist": read_nmnist,
    "shd": read_shd,
}
_OWN = {".npz": "arrays", ".csv": "csv"}  # suffix of a user's own file -> definition


@dataclass(frozen=True)
class Dataset(Generic[S]):
    """A decoded data set on the host: images as uint8, features, or recordings of events.

    classes: names, of a set with classes; variables: names of the values to predict, of all others.
    kind: of the targets, a name of `neurosbd.losses.TARGETS`.
    target_mean, target_std: per variable, of the training split; none for classes.
    size: of one example, or of one frame of a recording, as a network sees it, (channels, height, width) or (n,).
    maximum: value that counts as 1. mean, std: per channel or feature of the training split, in units of the maximum;
    the deviation of what is constant is infinite; none for events.
    duration: time that covers every event of the whole set, s; 0 for images and features, which stand still.
    columns: names of the features of a table; dropped: of its columns that were left out as asked.
    validation: examples held out of the training split, of which its statistics know nothing; None, if not asked for.
    """

    name: str
    train: S
    test: S
    classes: tuple[str, ...]
    size: tuple[int, ...]
    maximum: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    duration: float = 0.0
    kind: str = "classes"
    variables: tuple[str, ...] = ()
    target_mean: tuple[float, ...] = ()
    target_std: tuple[float, ...] = ()
    columns: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    validation: S | None = None

    @property
    def splits(self) -> dict[str, S]:
        """Those that are there, by name."""
        held = {} if self.validation is None else {"validation": self.validation}
        return {"train": self.train, **held, "test": self.test}

    @property
    def outputs(self) -> int:
        """Classes, or values to predict."""
        return len(self.classes) if self.kind == "classes" else len(self.variables)

    def __repr__(self) -> str:
        examples = ", ".join(f"{len(samples):,} {name}" for name, samples in self.splits.items())
        return one_line(f"Dataset({self.name!r}: {examples}; size {list(self.size)}, {self._predicted()})")

    def _repr_html_(self) -> str:
        rows: list[tuple[str, object]] = [(name, f"{len(samples):,}") for name, samples in self.splits.items()]
        rows += [("size of an example", list(self.size)), ("to predict", self._predicted())]
        rows += [("duration", f"{self.duration:g} s")] if self.duration else []
        return html_table(f"data set {self.name}", rows, ("split", "examples"))

    def _predicted(self) -> str:
        names = self.classes if self.kind == "classes" else self.variables
        what = "classes" if self.kind == "classes" else f"values ({self.kind})"
        return f"{len(names):,} {what}: {', '.join(names[:10])}{', ...' if len(names) > 10 else ''}"


def load_data(
    name: str | Path = "digits",
    root: str | Path | None = None,
    subset: int | None = None,
    subset_seed: int | None = None,
    test_subset: int | None = None,
    columns: Sequence[str] = (),
    validation: float | int | None = None,
    validation_seed: int = 0,
) -> Dataset:
    """Load a data set.

    Args:
        name: a shipped data set (`neurosbd list data`), a .toml file, an .npz or .csv file of your own, or a
            folder with class folders of pictures.
        root: folder with the files; none: NEUROSBD_DATA, then the download folder.
        subset: training examples per class, or in all if there are no classes; none: all.
        subset_seed: none takes the first ones (of each class), else they are drawn with this seed.
        test_subset: test examples per class, or in all; none: all.
        columns: of a table, that are read: names, in which * and ? stand for others; "-NAME" leaves one out; none: all.
            Features of an .npz without feature_names are called x0, x1, ...
        validation: how much of the training split is held out as `validation`, after `subset`: a fraction, or how many
            examples in all; with classes every class gives its share. None: nothing.
        validation_seed: which examples.

    Raises:
        UsageError: if the set is not there, or a file is truncated, corrupt or not what it should be.

    >>> digits = load_data("digits")
    >>> digits.size, len(digits.train.labels), len(digits.test.labels)
    ((1, 8, 8), 1442, 355)
    """
    try:
        legal_share(validation)
    except ValueError as problem:
        raise UsageError(f"validation {problem}") from None
    definition, root = _definition(name, root)
    if columns:
        definition = definition.model_copy(update={"columns": tuple(columns)})
    splits = _splits(definition, root)
    return chosen_of(definition, splits, subset, subset_seed, test_subset, validation, validation_seed)


def chosen_of(
    definition: DatasetFile,
    splits: Splits,
    subset: int | None,
    subset_seed: int | None,
    test_subset: int | None,
    validation: float | int | None,
    validation_seed: int,
) -> Dataset:
    """Of whole splits the examples that are asked for, as `load_data`; with their moments, and what is odd said."""
    whole = splits
    named = {what: tuple(map(one_line, getattr(splits, what))) for what in ("classes", "variables", "columns")}
    splits = replace(splits, **named)  # names of folders and columns
    if definition.columns and not splits.columns:
        raise UsageError(f"data.columns chooses columns of a table, but '{definition.name}' has none; remove it")
    chosen = _of_each_class if splits.kind == "classes" else _of_all
    splits = replace(
        splits,
        train=chosen(splits.train, subset, subset_seed, f"{definition.name}: data.subset"),
        test=chosen(splits.test, test_subset, subset_seed, f"{definition.name}: data.test_subset"),
    )
    train, held = hold_out(splits.train, validation, validation_seed, definition.name, splits.classes)
    splits = replace(splits, train=train)
    if isinstance(splits.train, EventSamples):
        duration = max(whole.train.duration, whole.test.duration)
        data = Dataset(definition.name, splits.train, splits.test, splits.classes, splits.train.size, duration=duration)
    else:
        data = _dataset(definition, splits)
    data = replace(data, validation=held)
    for remark in (*splits.remarks, *_remarks(data)):
        warn(remark)
    return data


def _remarks(data: Dataset) -> list[str]:
    """What is to be said about the examples that were chosen."""
    train, test = data.train, data.test
    classes = coverage(train.labels, test.labels, data.classes, data.name) if data.kind == "classes" else []
    if isinstance(train, EventSamples) or train.values.dtype.kind != "f" or train.values.ndim != 2:
        return classes
    names = data.columns or [f"x{i}" for i in range(data.size[0])]
    return classes + unusual(train.values, test.values, (data.mean, data.std), names, data.name)


def resolve_data(name: str, request: str | None) -> tuple[str, str | None]:
    """What `--data` means for a model whose own set is `name`: (name, root).

    A name or a .toml file replaces the set; a folder that holds the files of the model's set becomes
    its root; an .npz file or a folder of class folders is a set of the user's own, and so may be that of the model.
    """
    if request is None or not legal_path(request).is_dir():
        return (request or name), None
    if name not in library.names("data") and legal_path(name).suffix.lower() != ".toml":
        return request, None  # a path, which has no root
    definition = load_file(name, READERS)
    if definition.files:
        try:
            locate(definition, request)
            return name, request
        except UsageError as problem:
            if not has_class_folders(Path(request)):
                raise UsageError(f"data {request}: {problem}") from None
    return request, None


def _definition(name: str | Path, root: str | Path | None) -> tuple[DatasetFile, str | Path | None]:
    path = legal_path(name)
    suffix = path.suffix.lower()
    if suffix in _OWN:
        regular(path)
        generic = load_file(_OWN[suffix], READERS)
        return generic.model_copy(update={"name": path.stem, "files": {"all": (path.name,)}}), path.parent
    if path.is_dir() and str(name) not in library.names("data"):
        return load_file("folder", READERS).model_copy(update={"name": path.resolve().name}), path
    return load_file(name, READERS), root


def _splits(definition: DatasetFile, root: str | Path | None) -> Splits:
    """The whole set: generated, decoded, or from the cache."""
    read = READERS[definition.reader]
    if definition.process is not None:
        return check(read(definition, Path()), definition.name)
    check_reader(definition)
    folder = locate(definition, root) if definition.files else _folder(definition, root)
    lone = definition.files.get("all", ())
    source = folder / lone[0] if len(lone) == 1 else folder
    return cached(definition, folder, lambda: check(read(definition, folder), str(source)))


def _folder(definition: DatasetFile, root: str | Path | None) -> Path:
    if root is None:
        what = next((f"{suffix} file" for suffix, reader in _OWN.items() if reader == definition.reader), "folder")
        raise UsageError(f"data set '{definition.name}' is your own: point {DATA} to the {what}")
    return legal_path(root)


def _order(count: int, seed: int | None, key: str) -> np.ndarray:
    """Numbers of the examples, as they are or shuffled."""
    if seed is None:
        return np.arange(count)
    return np.random.default_rng(generator(seed, "subset", key).initial_seed()).permutation(count)


def _of_all(samples: S, count: int | None, seed: int | None, key: str) -> S:
    if count is None:
        return samples
    if count > len(samples):
        raise UsageError(f"{key} is {count}, but there are {len(samples)} examples; choose at most that")
    return samples.take(np.sort(_order(len(samples), seed, key)[:count]))


def _of_each_class(samples: S, per_class: int | None, seed: int | None, key: str) -> S:
    if per_class is None:
        return samples
    classes, counts = np.unique(samples.labels, return_counts=True)  # those without any example are warned of
    if counts.min() < per_class:
        fewest = int(classes[counts.argmin()])
        raise UsageError(
            f"{key} is {per_class} for each class, but class {fewest} has {counts.min()} examples; choose at most "
            f"that, or leave it out for all {len(samples)}"
        )
    order = _order(len(samples), seed, key)
    chosen = np.concatenate([order[samples.labels[order] == c][:per_class] for c in classes])
    chosen.sort()
    return samples.take(chosen)


def _dataset(definition: DatasetFile, splits: Splits[Samples]) -> Dataset[Samples]:
    values = splits.train.values
    flat = values.ndim == 2
    maximum = 1.0 if values.dtype.kind == "f" else float(definition.maximum)
    if definition.mean and definition.std:
        mean, std = definition.mean, definition.std
    else:
        mean, std = measure(values if values.dtype.kind == "u" else values.reshape(-1, values.shape[-1]), maximum)
    size = values.shape[1:] if flat else (values.shape[3], *values.shape[1:3])
    data = Dataset(definition.name, splits.train, splits.test, splits.classes, size, maximum, mean, std)
    data = replace(data, columns=splits.columns, dropped=splits.dropped)
    if splits.kind == "classes":
        return data
    target_mean, target_std = measure(splits.train.targets, 1.0)
    return replace(data, kind=splits.kind, variables=splits.variables, target_mean=target_mean, target_std=target_std)
