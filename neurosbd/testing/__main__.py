"""`python -m neurosbd.testing [KIND/NAME ...] [--plugin FILE.py]`: a line for every part that is checked."""

import argparse
import sys
from collections.abc import Sequence

from neurosbd.errors import UsageError, nearest
from neurosbd.plugins import load_file, load_packages, registered
from neurosbd.tables import table
from neurosbd.testing import CHECKS, maker
from neurosbd.text import say


def main(arguments: Sequence[str] | None = None) -> int:
    """Check parts; the exit status is 0 if all keep their contracts, 1 if one does not, 2 if there is no such part."""
    parser = argparse.ArgumentParser(
        prog="python -m neurosbd.testing",
        description="Checks that parts keep the contract of their kind: those that plugins register, or all there are.",
    )
    parser.add_argument("parts", nargs="*", metavar="KIND/NAME", help=f"kinds: {', '.join(CHECKS)}")
    parser.add_argument(
        "--plugin", action="append", default=[], metavar="FILE.py",
        help="run a file that registers parts; without KIND/NAME these parts alone are checked; repeatable",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    try:
        for file in options.plugin:
            load_file(file)
        parts = registered() if options.plugin and not options.parts else _asked(options.parts)
        failed = [part for part in parts if not _passes(*part)]
    except UsageError as problem:
        say(f"neurosbd.testing: {problem}", sys.stderr)
        return 2
    return 1 if failed else 0


def _asked(parts: Sequence[str]) -> list[tuple[str, str]]:
    """(kind, name) of the parts that are named; if none is, of all that there are checks for.

    Raises:
        UsageError: if there is no such part.
    """
    load_packages()
    asked = []
    for part in parts or [f"{kind}/{name}" for kind in CHECKS for name in table(kind)]:
        kind, slash, name = part.partition("/")
        items = table(kind)
        if not slash or name not in items:
            raise UsageError(f"there is no '{part}'{nearest(part, [f'{kind}/{name}' for name in items])}")
        asked.append((kind, name))
    return asked


def _passes(kind: str, name: str) -> bool:
    """Check one part and say how it went."""
    checks = CHECKS.get(kind, ())
    if not checks:
        say(f"{kind}/{name}: registered; {kind} have no checks beyond their signature")
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
