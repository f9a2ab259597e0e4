"""A kind of file that the product reads: how a valid one is made, and what a user does with it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Format:
    """One kind of file.

    make: fills the working folder with small valid files.
    targets: patterns of those that are damaged.
    reads: what a user does with a damaged one, in the working folder; each returns what it read. One that is named
        twice is taken twice as often.
    free: why a damaged file may be read as other content without a word; '' if it may not, since a checksum covers it
        or it can be made anew.
    """

    make: Callable[[Path], None]
    targets: tuple[str, ...]
    reads: tuple[Callable[[Path], object], ...]
    free: str = ""

    def files(self, folder: Path) -> list[Path]:
        """Those that are damaged, sorted."""
        return sorted(path for pattern in self.targets for path in folder.glob(pattern) if path.is_file())
