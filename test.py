"""Evaluate an encoder on rows it has not seen, beside PCA, truncation and random projection to as many dimensions."""

import sys

from dploss.commands.test import main

if __name__ == "__main__":
    sys.exit(main())
