"""Glance at a training: its losses, and recall where it was measured. It may still be running."""

import sys

from dploss.commands.plot import main

if __name__ == "__main__":
    sys.exit(main())
