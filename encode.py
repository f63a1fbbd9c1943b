"""Encode a file of vectors with a trained encoder, or decode what was encoded."""

import sys

from dploss.commands.encode import main

if __name__ == "__main__":
    sys.exit(main())
