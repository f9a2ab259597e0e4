"""What can go wrong for a user, in two kinds. Layer 0.

Both are shown as their message alone; a traceback is for our own mistakes.
"""

import difflib
from collections.abc import Iterable


class UsageError(ValueError):
    """A request, file or value that cannot be carried out. Nothing was changed. Exit status 2."""


class RunError(RuntimeError):
    """A run that started and failed; the message says what is kept. Exit status 1."""


def nearest(name: str, legal: Iterable[str]) -> str:
    """'; did you mean ...? Legal: ...' for an unknown name.

    >>> nearest("sdb", ["sbd", "dfa"])
    "; did you mean 'sbd'? Legal: sbd, dfa"
    """
    legal = list(legal)
    close = difflib.get_close_matches(name, legal, n=1, cutoff=0.5)
    hint = f"; did you mean '{close[0]}'?" if close else ";"
    return f"{hint} Legal: {', '.join(legal)}"
