"""Write a trained encoder to a folder that others load, and that the Hugging Face Hub can hold."""

import sys

from dploss.commands.share import main

if __name__ == "__main__":
    sys.exit(main())
