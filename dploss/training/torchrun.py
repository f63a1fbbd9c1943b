"""What torchrun tells its processes through the environment. Imports no torch."""

import os


def n_processes() -> int:
    """How many processes torchrun started; 1 where it did not, though a cluster may set WORLD_SIZE for others."""
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def is_main_process() -> bool:
    """Whether this process is the first of those that torchrun started, or alone."""
    return n_processes() == 1 or int(os.environ["RANK"]) == 0


def local_rank() -> int:
    """Which of this machine's processes it is, from 0."""
    return int(os.environ["LOCAL_RANK"])
