"""Evaluate an encoder on rows it has not seen, beside PCA, truncation and random projection to as many dimensions.

recall@k is the share of a row's k nearest rows that are among its k nearest by the latents. Distortion is the mean
relative change of a distance, Spearman the rank correlation of the distances before and after. Training rows among the
vectors are left out, as far as the training's own file can be read.

--peers stores the same rows at the same bytes a vector as others would: PCA as int8, RaBitQ, OPQ with and without the
norm restored (by FAISS), and PQ along principal axes (--code pq, untrained). They are fitted to the training rows, of
more than 20,000 to a sample. OPQ is trained twice, which takes minutes: some 4 each on 2 cores for 9,000 rows of 768
dimensions and 64 bytes, twice that for 20,000 rows.

--drift says how far the rows of --data have moved from those of the training, and whether a new training pays: exit
code 3 where it does (retrain), 0 where not (fine). Rows may have moved, or be harder by themselves, and a new training
keep no more of their neighbours. So a closed form (renormalised PCA, and the code of --bytes) is fitted to half of the
new rows, and to as many training rows or more. Where the first keeps 0.02 more of the neighbours of the other half,
beyond what sampling makes, it is retrain; also where recall fell by 0.02, and as few training rows show that the new
ones are only too few yet. 0.02 is what a training of 50 epochs adds to its start at 128 of 768 dimensions: less is not
worth encoding all rows anew.

--queries searches rows by vectors that are none of them, as users do: of each query's k nearest rows by the originals,
which share is found by every short form, and how well (--qrels) the relevant rows: nDCG@10, MRR@10 and recall, with
intervals over the queries. "keeps 99 %" is said of a form only where the whole interval of its share of the original's
nDCG is at 99 % or above.

Examples:
  test.py                       the newest experiment's best checkpoint
  test.py --experiment_id 3f2a  experiment 3f2a...
  test.py --checkpoint checkpoints/3f2a.../checkpoint_epoch_050.pth
  test.py --data other.parquet  on other vectors of the same dimensions
  test.py --data new.parquet --drift    would a new training pay?
  test.py --encoded short.npy   what encode.py wrote, too
  test.py --neighbours 5        nearest texts before and after
  test.py --plot                originals and latents side by side
  test.py --peers               PCA int8, OPQ, RaBitQ at as many bytes
  test.py --queries builtin --qrels builtin    what real queries find
  test.py --json > report.json
"""

import shutil
import sys
from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dploss.cli.flags import PathFlag, add_checkpoint_flag, add_experiment_flags, checkpoint_of
from dploss.cli.main import Parser, run
from dploss.commands.query_flags import add_query_flags, query_problem, report_queries
from dploss.config import DEVICES
from dploss.errors import InputError
from dploss.files.atomic import json_text
from dploss.files.given import refuse_remote
from dploss.text import counted

if TYPE_CHECKING:
    from dploss.codes.code import Code
    from dploss.evaluation.eval_rows import EvalRows
    from dploss.evaluation.peers import Peers


def parser() -> Parser:
    """The script's flags."""
    flags = Parser("test.py", __doc__)
    add_experiment_flags(flags)
    add_checkpoint_flag(flags)
    flags.add_argument(
        "--encoded",
        metavar="FILE",
        action=PathFlag,
        help="evaluate this output of encode.py, too; its encoder and vectors are the default",
    )
    flags.add_argument(
        "--peers",
        action="store_true",
        help="of an encoder with --bytes: score what others store in as many bytes, too; takes minutes, and needs "
        "pip install 'dploss[faiss]'",
    )
    data = flags.add_argument_group("data")
    data.add_argument(
        "--data", metavar="VECTORS", action=PathFlag, help="other vectors (default: the experiment's held-out rows)"
    )
    data.add_argument("--column", help="with --data: the column that holds the vectors")
    data.add_argument("--limit", type=int, help="with --data: only the first LIMIT rows")
    data.add_argument(
        "--skip-bad-rows",
        action="store_true",
        help="with --data, --queries or --database: leave out rows that cannot be used (null, empty, not finite, ...) "
        "instead of stopping; queries that are rows, too",
    )
    data.add_argument(
        "--drift",
        action="store_true",
        help="with --data: how far its rows have moved from those of the training; exit code 3: train anew",
    )
    data.add_argument(
        "--rows", type=int, default=3000, help="evaluate on a sample of N rows (default: %(default)s)", metavar="N"
    )
    data.add_argument("--k", type=int, nargs="+", default=[1, 5, 10, 50], help="neighbours (default: 1 5 10 50)")
    data.add_argument("--device", choices=DEVICES, default="auto", help="where to encode (default: %(default)s)")
    add_query_flags(flags)
    shown = flags.add_argument_group("output")
    shown.add_argument("--neighbours", type=int, metavar="N", help="print the N nearest texts of a few rows, too")
    shown.add_argument("--text-column", metavar="COLUMN", help="with --neighbours: the column of the texts")
    shown.add_argument(
        "--plot",
        nargs="?",
        const="",
        metavar="FIGURE",
        action=PathFlag,
        help="draw originals and latents side by side (default: spaces.png beside the checkpoint)",
    )
    shown.add_argument("--plot-method", choices=("tsne", "pca"), default="tsne", help="(default: %(default)s)")
    shown.add_argument("--json", action="store_true", help="print the report as JSON")
    return flags


def test(args: Namespace) -> int:
    """Evaluate, print the report, and what else was asked for."""
    problem = contradiction(args)
    if problem:
        raise InputError(problem)
    for source in filter(None, (args.data, args.encoded)):
        refuse_remote(source)
    if args.encoded:
        name_origins(args)
    path = checkpoint_of(args)

    # Imported late: --help and a wrong flag need not wait for torch.
    from dploss.codes.encoded_file import read_codes
    from dploss.data import read_texts
    from dploss.evaluation.drift import measure_drift
    from dploss.evaluation.eval_rows import other_rows, own_rows
    from dploss.evaluation.neighbour_texts import neighbour_lines
    from dploss.evaluation.peers import NO_PEERS
    from dploss.evaluation.report import compared, evaluate_encoder
    from dploss.experiments.checkpoints import load_checkpoint
    from dploss.experiments.record import ExperimentRecord
    from dploss.models.build import encoder_of
    from dploss.models.device import pick_device
    from dploss.plots import figure_path, save, show
    from dploss.plots.spaces import spaces_figure

    figure_file = None if args.plot is None else figure_path(args.plot or path.parent / "spaces.png")
    device = pick_device(args.device)
    checkpoint = load_checkpoint(path)
    encoder = encoder_of(checkpoint, path).to(device)
    record = ExperimentRecord.from_dict(checkpoint["config"])
    if args.data is None:
        data = own_rows(record, args.rows)
    else:
        data = other_rows(record, args.data, args.column, args.limit, args.skip_bad_rows, args.rows)
    ks = sorted({k for k in args.k if k < len(data.rows)})
    if not ks or (args.neighbours or 0) >= len(data.rows):
        left_out = f"{data.note}; " if data.training_rows_left_out else ""
        few = counted(len(data.rows), "row is", "rows are")
        raise InputError(f"{data.source}: {left_out}{few} too few for that many neighbours")
    codes = {}
    if args.encoded:
        stored, form = read_codes(Path(args.encoded), data.index, encoder.code)
        codes[f"{Path(args.encoded).name} ({form.label})"] = stored
    texts = read_texts(data.source, data.index, args.text_column) if args.neighbours else []
    queries = report_queries(args, checkpoint, path, encoder)
    peers = peers_of(encoder.code, record.config.metric, path, data) if args.peers else NO_PEERS
    drift = None
    if args.drift:
        drift = measure_drift(encoder, record.config, data, min(ks, key=lambda k: abs(k - 10)), args.rows)

    report, latents = evaluate_encoder(checkpoint, path, encoder, data, ks, codes, peers)
    found = report.as_dict() | (queries.as_dict() if queries else {}) | ({"drift": drift.as_dict()} if drift else {})
    lines = [line for one in (report, queries, drift) if one for line in one.lines()]
    print(json_text(found) if args.json else "\n".join(lines))
    if args.neighbours:
        width = shutil.get_terminal_size().columns
        about = data.rows, latents, texts, args.neighbours, width, record.config.seed
        print("", *neighbour_lines(*about, *compared(encoder, record.config, data.rows)), sep="\n")
    if figure_file is not None:
        print("drawing originals and latents ...", file=sys.stderr)
        figure = spaces_figure(data.rows, latents, args.plot_method, report.title())
        save(figure, figure_file)
        print(figure_file, file=sys.stderr if args.json else sys.stdout)
        show(figure)
    return drift.exit_code if drift else 0


def peers_of(code: "Code | None", metric: str, path: Path, data: "EvalRows") -> "Peers":
    """The peers of a code, fitted to the training rows.

    Raises:
        InputError: there is no code, or one for inner products, the training rows cannot be opened, or FAISS is not
            installed.
    """
    from dploss.evaluation.peers import Peers

    if code is None:
        raise InputError(f"--peers: {path} stores no bytes; train with --bytes")
    if metric == "ip":
        raise InputError("--peers store vectors for distances; the experiment's --metric is ip")
    if data.train_rows is None:
        raise InputError(f"--peers are fitted to the training rows, which cannot be opened: {data.missing}")
    return Peers.fit(data.train_rows, code.bytes_per_vector, partial(print, file=sys.stderr, flush=True))


def name_origins(args: Namespace) -> None:
    """Take the checkpoint and the vectors that codes were made from, where no others are named.

    Rows without codes are left out.

    Raises:
        InputError: the sidecar is missing or invalid.
    """
    from dploss.codes.encoded_file import read_origins

    origins = read_origins(Path(args.encoded))
    if not args.checkpoint and not args.experiment_id:
        args.checkpoint = origins.checkpoint
    if not args.data:
        args.data, args.column = origins.data, args.column or origins.column
        args.skip_bad_rows = origins.has_bad_rows


def contradiction(args: Namespace) -> str | None:
    """Which flags do not go together, or are out of range."""
    if args.drift and args.data is None:
        return "--drift needs --data"
    if args.data is None and (args.column or args.limit):
        return f"{'--column' if args.column else '--limit'} needs --data"
    if args.skip_bad_rows and not (args.data or args.queries or args.database):
        return "--skip-bad-rows needs --data, --queries or --database"
    if query_problem(args):
        return query_problem(args)
    if args.text_column and not args.neighbours:
        return "--text-column needs --neighbours"
    if args.json and args.neighbours:
        return "--neighbours prints text, which does not go with --json"
    for flag, value, least in (
        ("--limit", args.limit, 3),
        ("--rows", args.rows, 3),
        ("--neighbours", args.neighbours, 1),
        ("--k", min(args.k), 1),
    ):
        if value is not None and value < least:
            return f"{flag} must be at least {least}, got {value}"
    return None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    return run(test, parser(), argv)
