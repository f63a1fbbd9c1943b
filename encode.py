"""Encode a file of vectors with a trained encoder.

Reads the formats that train.py reads, in batches, and writes .npy, .parquet (with the input's other columns), .fvecs or
.fbin. The sidecar OUTPUT.json describes the codes, int8's scales included. After a stop or a kill the same command
resumes.

Examples:
  encode.py vectors.parquet short.parquet               the newest experiment's best checkpoint, or its latest
  encode.py vectors.npy short.fbin --experiment_id 3f2a
  encode.py vectors.npy short.npy --dtype int8          a quarter of the bytes; scales in short.npy.json
  encode.py vectors.npy bits.npy --dtype binary         a bit per dimension, as FAISS's binary indexes have them
  encode.py vectors.npy short.npy --dim 64              a Matryoshka encoder's first 64 dimensions
  encode.py shards/ short/ --engine ray                 a folder of parquet with Ray, on all cores or on a cluster
  test.py --encoded short.npy                           recall of the codes in the file
"""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from dploss.cli.flags import add_experiment_flags, checkpoint_of
from dploss.cli.main import INTERRUPTED, Parser, interrupt_flag, run
from dploss.codes.quantizer import DTYPES
from dploss.config import DEVICES
from dploss.errors import InputError


def parser() -> Parser:
    """The script's flags."""
    about, examples = __doc__.split("\n\nExamples", 1)
    flags = Parser(prog="encode.py", description=about, epilog="Examples" + examples)
    flags.add_argument("input", metavar="INPUT", help="vectors: a file, a quoted glob, a folder of parquet, 'builtin'")
    flags.add_argument("output", metavar="OUTPUT", help=".npy, .parquet, .fvecs or .fbin")
    add_experiment_flags(flags)
    flags.add_argument("--checkpoint", metavar="PATH", help="a checkpoint, instead of an experiment's best or latest")
    flags.add_argument("--column", help="the column that holds the vectors")
    flags.add_argument("--dtype", choices=DTYPES, default="float32", help="of the codes (default: %(default)s)")
    flags.add_argument("--dim", type=int, help="only the first DIM dimensions of each latent")
    flags.add_argument("--batch-size", type=int, default=8192, help="rows at a time (default: %(default)s)")
    flags.add_argument("--device", choices=DEVICES, default="auto", help="where to encode (default: %(default)s)")
    flags.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="ray: parquet to a folder of parquet, on all cores or on a cluster (default: %(default)s)",
    )
    flags.add_argument("--quiet", action="store_true", help="print only warnings, errors and the result")
    return flags


def encode(args: Namespace) -> int:
    """Encode, and print the path of the codes."""
    if args.batch_size < 1:
        raise InputError(f"--batch-size must be at least 1, got {args.batch_size}")
    path = checkpoint_of(args)

    # Imported here: --help and wrong flags should not wait for torch.
    from tqdm import tqdm

    from dploss.encoding.job import EncodeJob
    from dploss.experiments.checkpoints import load_checkpoint
    from dploss.experiments.record import ExperimentRecord
    from dploss.models.build import encoder_of
    from dploss.models.device import pick_device

    device = pick_device(args.device)
    checkpoint = load_checkpoint(path)
    encoder = encoder_of(checkpoint, path).to(device)
    record = ExperimentRecord.from_dict(checkpoint["config"])
    if record.config.images is not None:
        raise InputError(f"{path}: this encoder takes images; encode.py encodes vectors")
    job = EncodeJob(
        encoder,
        args.input,
        Path(args.output),
        checkpoint=path,
        experiment_id=record.origin.experiment_id,
        dtype=args.dtype,
        column=args.column,
        dim=args.dim,
        batch_size=args.batch_size,
        folder=args.engine == "ray",
    )
    if not args.quiet:
        print(f"encoding {job.rows:,} rows of {args.input} with {path} on {device.type}", file=sys.stderr)
        if job.done:
            print(f"{job.done:,} rows were encoded by an earlier run", file=sys.stderr)
    hidden = args.quiet or not sys.stderr.isatty()
    with interrupt_flag() as stop, tqdm(total=job.rows, initial=job.done, unit="row", disable=hidden) as bar:
        if args.engine == "ray":
            from dploss.encoding.ray_engine import encode_with_ray

            complete = encode_with_ray(job, device.type, bar.update, stop)
        else:
            complete = job.run(bar.update, stop)
    if not complete:
        print(f"interrupted after {job.done:,} rows; the same command resumes", file=sys.stderr)
        return INTERRUPTED
    print(args.output)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    return run(encode, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
