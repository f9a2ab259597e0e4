"""`python -m neurosbd`."""

import sys

from neurosbd.cli import main

sys.exit(main())
