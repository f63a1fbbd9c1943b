"""Write a trained encoder to a folder that others load with `load_encoder`, and that the Hugging Face Hub can hold.

The folder has model.safetensors (weights, and the code of train.py --bytes), config.json (the settings; of paths the
names alone) and README.md, a model card with the recall on held-out rows, in which licence and model of the vectors are
left to be filled in. Nothing in it is pickled.

Examples:
  share.py my-encoder                             the newest experiment's best checkpoint, or its latest
  share.py my-encoder --experiment_id 3f2a
  encode.py vectors.npy short.npy --checkpoint my-encoder
"""

import sys
from argparse import Namespace
from collections.abc import Sequence

from dploss.cli.flags import add_checkpoint_flag, add_experiment_flags, checkpoint_of
from dploss.cli.main import Parser, run


def parser() -> Parser:
    """The script's flags."""
    flags = Parser("share.py", __doc__)
    flags.add_argument("folder", metavar="FOLDER", help="where to write; made if need be")
    add_experiment_flags(flags)
    add_checkpoint_flag(flags)
    return flags


def share(args: Namespace) -> int:
    """Write the folder, and print its path."""
    path = checkpoint_of(args)

    # Imported late: --help and a wrong flag need not wait for torch.
    from dploss.integrations import sharing

    folder = sharing.share(path, args.folder)
    print(f"fill in README.md, then: hf upload OWNER/NAME {folder}", file=sys.stderr)
    print(folder)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    return run(share, parser(), argv)
