"""Encode a file of vectors with a trained encoder, or decode what was encoded.

Reads the formats that train.py reads, in batches, and writes .npy, .parquet (with the other columns of parquet or
Arrow), .fvecs or .fbin. An experiment of train.py --bytes has a code: its codes are written, uint8 in .npy, binary
values in .parquet, unless --dtype asks for latents. The sidecar OUTPUT.json describes the output, int8's scales
included. After a stop or a kill the same command resumes.

Examples:
  encode.py vectors.parquet short.parquet    by the newest experiment
  encode.py vectors.npy short.fbin --experiment_id 3f2a
  encode.py vectors.npy short.npy --dtype int8
  encode.py vectors.npy bits.npy --dtype binary
  encode.py vectors.npy short.npy --dim 64   of a Matryoshka encoder
  encode.py vectors.npy codes.npy            codes, by one with --bytes
  encode.py --decode codes.npy latents.npy   latents from codes
  encode.py shards/ short/ --engine ray      parquet, on all cores or more
  test.py --encoded short.npy                recall of what is in the file
"""

import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from dploss.cli.flags import PathFlag, add_checkpoint_flag, add_experiment_flags, checkpoint_of
from dploss.cli.main import INTERRUPTED, Parser, interrupt_flag, run
from dploss.cli.messages import message_lines
from dploss.codes.quantizer import DTYPES
from dploss.config import DEVICES
from dploss.errors import InputError
from dploss.files.given import refuse_remote
from dploss.text import LINE, counted, elided

_PATH_WIDTH = 40


def parser() -> Parser:
    """The script's flags."""
    flags = Parser("encode.py", __doc__)
    flags.add_argument(
        "input",
        metavar="INPUT",
        action=PathFlag,
        help="vectors: a file, a quoted glob, a folder of parquet or arrow, 'builtin' (docs/DATA.md has all)",
    )
    flags.add_argument("output", metavar="OUTPUT", action=PathFlag, help=".npy, .parquet, .fvecs or .fbin")
    flags.add_argument(
        "--decode",
        action="store_true",
        help="INPUT holds codes: write their latents, by the checkpoint that made them unless one is named",
    )
    add_experiment_flags(flags)
    add_checkpoint_flag(flags)
    flags.add_argument("--column", help="the column that holds the vectors, or the codes")
    flags.add_argument("--dtype", choices=DTYPES, help="of latents (default: the experiment's code, or float32)")
    flags.add_argument("--dim", type=int, help="only the first DIM dimensions of each latent, of a Matryoshka encoder")
    flags.add_argument("--any-dim", action="store_true", help="allow a --dim that the encoder was not trained for")
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
    """Encode or decode, and print the path of the output."""
    refuse_remote(args.input)
    if args.batch_size < 1:
        raise InputError(f"--batch-size must be at least 1, got {args.batch_size}")
    path = checkpoint_to_decode(args) if args.decode else checkpoint_of(args)

    # Imported here: --help and wrong flags should not wait for torch.
    from tqdm import tqdm

    from dploss.data.vectors import place_in_shards
    from dploss.encoding.decode import DecodeJob
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
    job: DecodeJob | EncodeJob
    if args.decode:
        job = DecodeJob(
            Path(args.input),
            Path(args.output),
            encoder.code,
            checkpoint=path,
            experiment_id=record.origin.experiment_id,
            column=args.column,
            batch_size=args.batch_size,
        )
    else:
        job = EncodeJob(
            encoder,
            args.input,
            Path(args.output),
            checkpoint=path,
            experiment_id=record.origin.experiment_id,
            dtype=args.dtype,
            column=args.column,
            dim=args.dim,
            any_dim=args.any_dim,
            batch_size=args.batch_size,
            folder=args.engine == "ray",
        )
    if not args.quiet:
        prefix = "de" if args.decode else "en"
        rows = counted(job.rows, "row")
        print(f"{prefix}coding {rows} of {elided(args.input, _PATH_WIDTH)} on {device.type}", file=sys.stderr)
        print(f"with {elided(str(path), LINE - 5)}", file=sys.stderr)
        if job.done:
            print(f"{counted(job.done, 'row was', 'rows were')} {prefix}coded by an earlier run", file=sys.stderr)
    hidden = args.quiet or not sys.stderr.isatty()
    with interrupt_flag() as stop, tqdm(total=job.rows, initial=job.done, unit="row", disable=hidden) as bar:
        if isinstance(job, EncodeJob) and args.engine == "ray":
            from dploss.encoding.ray_engine import encode_with_ray

            complete = encode_with_ray(job, device.type, bar.update, stop)
        else:
            complete = job.run(bar.update, stop)
    if not complete:
        print(f"interrupted after {counted(job.done, 'row')}; the same command resumes", file=sys.stderr)
        return INTERRUPTED
    if job.bad.count:
        job.bad.first_place = place_in_shards(args.input, job.bad.first_row)
        written = "null" if Path(args.output).suffix.lower() in ("", ".parquet") else "NaN"
        warning = f"warning: {args.input}: {job.bad}; they are {written} in {args.output}"
        print("\n".join(message_lines(warning, sys.stderr)), file=sys.stderr)
    print(args.output)
    return 0


def checkpoint_to_decode(args: Namespace) -> Path:
    """The checkpoint whose code decodes: the named one, or that which the codes were made with.

    Raises:
        InputError: flags that do not go with --decode, a sidecar that is missing or invalid, or no such checkpoint.
    """
    flags = {"--dtype": args.dtype, "--dim": args.dim, "--any-dim": args.any_dim or None}
    flags["--engine ray"] = args.engine == "ray" or None
    for flag, given in flags.items():
        if given is not None:
            raise InputError(f"{flag} does not go with --decode, which writes all of the latents as float32")
    if args.checkpoint or args.experiment_id:
        return checkpoint_of(args)

    from dploss.codes.encoded_file import read_origins

    path = Path(read_origins(Path(args.input)).checkpoint)
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such checkpoint, which made {args.input}; name it by --checkpoint")
    return path


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    return run(encode, parser(), argv)
