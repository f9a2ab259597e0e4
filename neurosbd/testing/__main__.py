"""`python -m neurosbd.testing [KIND [NAME ...]] [--plugin FILE.py]`: a line for every part that is checked."""

import argparse
import sys
from collections.abc import Sequence

from neurosbd.errors import UsageError, nearest
from neurosbd.schema.plugins import load_file, load_packages, registered
from neurosbd.tables import table
from neurosbd.testing import CHECKS, READ, maker
from neurosbd.text import say


def main(arguments: Sequence[str] | None = None) -> int:
    """Check parts; the exit status is 0 if all keep their contracts, 1 if one does not, 2 if there is no such part."""
    parser = argparse.ArgumentParser(
        prog="python -m neurosbd.testing",
        description="Checks that parts keep the contract of their kind: those that plugins register, or all there are.",
    )
    parser.add_argument("kind", nargs="?", metavar="KIND", help=f"all of a kind: {', '.join(CHECKS)}")
    parser.add_argument("names", nargs="*", metavar="NAME", help="of that kind, these alone")
    parser.add_argument(
        "--plugin", action="append", default=[], metavar="FILE.py",
        help="run a file that registers parts; without NAME these parts alone are checked; repeatable",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    try:
        for file in options.plugin:
            load_file(file)
        load_packages()
        parts = _parts(options.kind, options.names)
        if options.plugin and not options.names:
            parts = [part for part in registered() if options.kind in (None, part[0])]
            if not parts:
                raise UsageError(f"none of these plugins registers {options.kind}; leave it out, or give a NAME of it")
        failures = [part for part in parts if not _passes(*part)]
    except UsageError as problem:
        say(f"neurosbd.testing: {problem}", sys.stderr)
        return 2
    return 1 if failures else 0


def _parts(kind: str | None, names: Sequence[str]) -> list[tuple[str, str]]:
    """(kind, name) of the parts that are named; if none is, of all of the kind, or of all kinds that there are.

    Raises:
        UsageError: if there is no such part.
    """
    if kind is None:
        return [(kind, name) for kind in CHECKS for name in table(kind) if name not in READ]
    if "/" in kind:
        raise UsageError(f"'{kind}' is written '{kind.replace('/', ' ')}' now: the kind, then names")
    items = table(kind)
    for name in names:
        if name not in items:
            raise UsageError(f"there is no '{name}' among {kind}{nearest(name, items)}")
    return [(kind, name) for name in names or items if name not in READ]


def _passes(kind: str, name: str) -> bool:
    """Check one part and say how it went."""
    checks = CHECKS.get(kind, ())
    if not checks:
        say(f"{kind}/{name}: is there; {kind} have no checks beyond their signature")
        return True
    for check in checks:
        try:
            check(maker(kind, name))
        except Exception as problem:  # whatever a part of one's own may raise
            said = str(problem) if isinstance(problem, AssertionError) else f"{type(problem).__name__}: {problem}"
            say(f"{kind}/{name}: FAILED {check.__name__}: {said}")
            return False
    say(f"{kind}/{name}: keeps its contract ({len(checks)} {'check' if len(checks) == 1 else 'checks'})")
    return True


if __name__ == "__main__":
    raise SystemExit(main())
