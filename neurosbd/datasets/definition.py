"""Dataset files: what a TOML file in data/ may say."""

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from neurosbd.datasets.processes import PROCESSES
from neurosbd.errors import UsageError, nearest
from neurosbd.files import library
from neurosbd.files.parsing import read_toml
from neurosbd.files.writing import legal_path
from neurosbd.schema.constants import Count, Fraction, Range, Whole
from neurosbd.schema.schema import Entry, OneOf, Record
from neurosbd.schema.validation import validate

Spread = Annotated[float, Range(above=0, most=1)]
ProcessEntry = Annotated[Entry, OneOf(PROCESSES)]


def _visible(name: str) -> str:
    """A name that could make a file of settings, '.bashrc', is none of a data set."""
    if library.path_component(name).startswith("."):
        raise UsageError(f"{name!r} begins with '.', which hides it; give a plain name such as 'my-set'")
    return name


def _below(folder: str) -> str:
    return folder and library.relative_path(folder)


Name = Annotated[str, AfterValidator(_visible)]
Below = Annotated[str, AfterValidator(_below)]
Suffix = Annotated[str, Field(pattern=r"^(\.\w+)?$")]
FilePath = Annotated[str, AfterValidator(library.relative_path)]

Columns = Annotated[tuple[str, ...], BeforeValidator(lambda asked: (asked,) if isinstance(asked, str) else asked)]

_NEEDED: dict[str, tuple[dict[str, int], tuple[str, ...], tuple[str, ...]]] = {
    # reader: how many files of each role at least, options that must be given, and those that may be
    "digits": ({"all": 1}, ("test_every",), ()),
    "idx": ({"train": 2, "test": 2}, (), ()),
    "cifar": ({"train": 1, "test": 1}, ("label_bytes",), ()),
    "tiny_imagenet": ({"index": 1}, (), ("channels",)),
    "folder": ({}, (), ("channels",)),
    "arrays": ({"all": 1}, (), ()),
    "csv": ({"all": 1}, (), ()),
    "table": ({"all": 1}, ("test_every",), ("block",)),
    "nmnist": ({"train": 1, "test": 1}, (), ()),
    "shd": ({"train": 1, "test": 1}, (), ()),
}


class Download(Record):
    """[[download]]: a file as it is published."""

    url: str = Field(pattern="^https?://")
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size: Count  # bytes

    @field_validator("url")
    @classmethod
    def _names_a_file(cls, url: str) -> str:
        _visible(_last_part(url))
        return url

    @property
    def filename(self) -> str:
        """Last part of the address, which the file is kept as."""
        return _last_part(self.url)


def _last_part(url: str) -> str:
    return urlsplit(url).path.rsplit("/", 1)[-1]


class Draws(Record):
    """draws: how much is generated, and from which seed."""

    train: Count
    test: Count
    seed: Whole = 0


class DatasetFile(Record):
    """A data set: where its files are, how to read them, what is in them."""

    name: Name
    about: str
    licence: str
    source: str
    reader: str
    folder: Below = ""  # folder of its files below the data root
    files: dict[str, tuple[FilePath, ...]] = Field(default_factory=dict)  # role -> file names, as the reader wants
    packed: Annotated[str, Field(pattern=r"^(\.\w+)?$")] = (
        ""  # suffix of the packed form of each file, which the reader opens as well
    )
    options: dict[str, Count] = Field(default_factory=dict)  # constants of the reader
    process: ProcessEntry | None = None  # that generates it, in place of files
    draws: Draws | None = None
    classes: tuple[str, ...] = ()
    targets: Literal["binary", "counts", "positive", "reals"] | None = None  # kind of the values to predict
    variables: tuple[str, ...] = ()  # names of these values
    features: tuple[str, ...] = ()  # names of the columns of arrays; none: those in the file, or x0, x1, ...
    columns: Columns = ()  # of a table, that are read: names, * and ? in them; "-NAME" leaves one out; none: all
    maximum: Annotated[int, Range(least=1, most=255)] = 255  # value of a white pixel
    mean: tuple[Fraction, ...] = ()  # per channel, white = 1; none: measured on the training images
    std: tuple[Spread, ...] = ()
    download: tuple[Download, ...] = ()
    obtain: str = ""  # how to get the files by hand, where no sha256 is published
    sha256: dict[str, str] = Field(default_factory=dict)  # content of a file, uncompressed -> digest

    @model_validator(mode="after")
    def _downloads_have_names_of_their_own(self) -> "DatasetFile":
        names = [item.filename for item in self.download]
        if len(set(names)) < len(names):
            raise UsageError(f"download: two addresses end in the same file name; there are {', '.join(names)}")
        return self


def load_file(name: str | Path, readers: Collection[str]) -> DatasetFile:
    """A dataset definition by name or path.

    Raises:
        UsageError: if the file is not valid or names an unknown reader, or is of another kind than .toml.
    """
    given = legal_path(name)
    if given.is_file() and given.suffix.lower() != ".toml" and str(name) not in library.names("data"):
        raise UsageError(
            f"{given}: is no file that is read here; give a .csv of numbers, an .npz of arrays, a folder of pictures "
            f"or a .toml that says how to read it"
        )
    path = library.find("data", name)
    raw = read_toml(path)
    raw.setdefault("name", path.stem)
    definition: DatasetFile = validate(DatasetFile, raw, path.name)
    if definition.reader not in readers:
        raise UsageError(f"{path.name}: reader: there is no '{definition.reader}'{nearest(definition.reader, readers)}")
    return definition


def check_reader(definition: DatasetFile) -> None:
    """Refuse a definition that lacks what its reader reads, or says what its reader never looks at.

    Raises:
        UsageError: with the key, what is legal and an example.
    """
    roles, needed, allowed = _NEEDED.get(definition.reader, ({}, (), ()))
    where = f"{definition.name}: reader '{definition.reader}'"
    for role, count in roles.items():
        if len(definition.files.get(role, ())) < count:
            example = ", ".join(f'"{role}-file-{i + 1}"' for i in range(count))
            raise UsageError(f"{where} needs files.{role} with {count} names at least: {role} = [{example}]")
    missing = [name for name in needed if name not in definition.options]
    if missing:
        raise UsageError(f"{where} needs options.{missing[0]}, a whole number from 1")
    for name in definition.options:
        if name not in needed + allowed:
            raise UsageError(f"{where} has no option '{name}'{nearest(name, needed + allowed) if allowed else ''}")
    if definition.options.get("channels", 3) not in (1, 3):
        raise UsageError(f"{where}: options.channels is {definition.options['channels']}; legal are 1 (grey) and 3")
