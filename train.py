"""Train an encoder that reduces the dimensions of vectors, or of images, and preserves their nearest neighbours."""

import sys

from dploss.commands.train import main

if __name__ == "__main__":
    sys.exit(main())
