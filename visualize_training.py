"""Study a training, or compare several: losses, recall@k on held-out rows, settings and times."""

import sys

from dploss.commands.visualize import main

if __name__ == "__main__":
    sys.exit(main())
