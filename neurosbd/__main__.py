"""`neurosbd` and `python -m neurosbd`."""

import sys

from neurosbd.runs.interrupt import Interrupt


def run() -> int:
    """The command line; Ctrl-C while it is still being imported ends like any other."""
    try:
        with Interrupt():
            from neurosbd.cli.main import main
    except KeyboardInterrupt:
        print("neurosbd: stopped", file=sys.stderr)
        return 1
    return main()


if __name__ == "__main__":
    sys.exit(run())
