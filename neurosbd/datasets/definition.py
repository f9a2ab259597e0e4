"""Dataset files: what a TOML file in data/ may say."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from neurosbd import library
from neurosbd.datasets.processes import PROCESSES
from neurosbd.errors import UsageError, nearest
from neurosbd.schema import Entry, OneOf, Record, validate

Fraction = Annotated[float, Field(ge=0, le=1)]
Spread = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]
ProcessEntry = Annotated[Entry, OneOf(PROCESSES)]


class Download(Record):
    """[[download]]: a file as it is published."""

    url: str = Field(pattern="^https?://")
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size: Annotated[int, Field(gt=0)]  # bytes

    @property
    def filename(self) -> str:
        """Last part of the address."""
        return self.url.rsplit("/", 1)[-1]


class Draws(Record):
    """draws: how much is generated, and from which seed."""

    train: Count
    test: Count
    seed: Annotated[int, Field(ge=0)] = 0


class DatasetFile(Record):
    """A data set: where its files are, how to read them, what is in them."""

    name: str
    about: str
    licence: str
    source: str
    reader: str
    folder: str = ""  # folder of its files below the data root
    files: dict[str, tuple[str, ...]] = Field(default_factory=dict)  # role -> file names, as the reader wants
    packed: str = ""  # suffix of the packed form of each file, which the reader opens as well
    options: dict[str, int] = Field(default_factory=dict)  # constants of the reader
    process: ProcessEntry | None = None  # that generates it, in place of files
    draws: Draws | None = None
    classes: tuple[str, ...] = ()
    targets: Literal["binary", "counts", "positive", "reals"] | None = None  # kind of the values to predict
    variables: tuple[str, ...] = ()  # names of these values
    maximum: Annotated[int, Field(gt=0, le=255)] = 255  # value of a white pixel
    mean: tuple[Fraction, ...] = ()  # per channel, white = 1; none: measured on the training images
    std: tuple[Spread, ...] = ()
    download: tuple[Download, ...] = ()
    obtain: str = ""  # how to get the files by hand, where no sha256 is published
    sha256: dict[str, str] = Field(default_factory=dict)  # content of a file, uncompressed -> digest


def load_file(name: str | Path, readers: Any) -> DatasetFile:
    """A dataset definition by name or path.

    Raises:
        UsageError: if the file is not valid or names an unknown reader.
    """
    path = library.find("data", name)
    raw = library.read_toml(path)
    raw.setdefault("name", path.stem)
    definition: DatasetFile = validate(DatasetFile, raw, path.name)
    if definition.reader not in readers:
        raise UsageError(f"{path.name}: reader: there is no '{definition.reader}'{nearest(definition.reader, readers)}")
    return definition
