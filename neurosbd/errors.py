"""What can go wrong for a user, in two kinds, and what is done but may not be meant.

All are shown as their message alone; a traceback is for our own mistakes.
"""

import difflib
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

OUT = "--out (in Python out=)"  # as messages call them, whoever reads them
RESUME = "--resume (in Python resume=True)"
FROM = "--from (in Python start=)"
DATA = "--data (in Python data=)"


def recorded_by(spec: str) -> str:
    """What records a signal, as messages call it."""
    return f'--record "{spec}" (in Python record=["{spec}"])'


class UsageError(ValueError):
    """A request, file or value that cannot be carried out. Nothing was changed. Exit status 2."""


class RunError(RuntimeError):
    """A run that started and failed; the message says what is kept. Exit status 1."""


class UsageWarning(UserWarning):
    """A request that is carried out, but may not do what was meant; Python's warning filters apply to it."""


def warn(message: str, stacklevel: int = 3) -> None:
    """Say that something is carried out that may not be meant; once for every text and place.

    Args:
        message: what is so, with figures, and what to change if it is not meant.
        stacklevel: whose line is named: 3, who called the function that warns.
    """
    for texts in _collections.get():
        if message not in texts:
            texts.append(message)
    warnings.warn(message, UsageWarning, stacklevel=stacklevel)


@contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """The texts of all that `warn` says meanwhile, each once, as it is said."""
    texts: list[str] = []
    before = _collections.set((*_collections.get(), texts))
    try:
        yield texts
    finally:
        _collections.reset(before)


def warnings_so_far() -> list[str]:
    """What the outermost collection of warnings holds; nothing outside of one."""
    return list(next(iter(_collections.get()), ()))


_collections: ContextVar[tuple[list[str], ...]] = ContextVar("collections of warnings", default=())


_LISTED = 60  # names that one line may have


def nearest(name: str, legal: Iterable[str]) -> str:
    """'; did you mean ...? Legal: ...' for an unknown name; '; legal: ...' where none is close.

    >>> nearest("sdb", ["sbp", "sbd", "dfa"])
    "; did you mean 'sbd'? Legal: sbp, sbd, dfa"
    >>> nearest("bp", ["sbd", "dfa"])
    '; legal: sbd, dfa'
    """
    legal = list(legal)
    close = difflib.get_close_matches(name, legal, cutoff=0.5)
    likeness = {word: difflib.SequenceMatcher(None, word, name).ratio() for word in close}
    # Of words that are equally close, the one with the same letters: two of them were exchanged.
    best = max(close, key=lambda word: (likeness[word], sum((Counter(word) & Counter(name)).values())), default=None)
    hint = f"; did you mean '{best}'? Legal" if best else "; legal"
    if len(legal) <= _LISTED:
        return f"{hint}: {', '.join(legal)}"
    alike = difflib.get_close_matches(name, legal, n=5, cutoff=0.0)
    return f"{hint}: {', '.join(alike)} and {len(legal) - len(alike)} more"
