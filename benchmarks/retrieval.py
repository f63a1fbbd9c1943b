r"""What real queries find by short vectors and stored bytes, trained with queries and without.

Encoders are trained on nine tenths of the rows, one of each size with the training queries and one without; held-out
queries then search all rows. Prints nDCG@10 and recall@10 of the relevant rows with the half widths of their bootstrap
95 % intervals, the share of the original's nDCG that is kept, and the recall of the 10 nearest rows by the originals.

The built-in queries are WordNet's example sentences, and the text of their entry holds the sentence in quotes: easy
for the originals. make_queries.py --set e5 makes a set whose queries and rows differ, and whose rows have no sentence.

Examples:
  retrieval.py --out docs/retrieval.json             about 40 minutes on 2 cores
  retrieval.py --data build/wordnet_e5_384.parquet --queries build/wordnet_e5_384_queries.parquet \
      --qrels build/wordnet_e5_384_qrels.tsv --dims 64 --bytes 32 --epochs 15 --out docs/retrieval_e5.json
  retrieval.py --data rows.npy --queries other.npy --qrels none --dims 64 --bytes
"""

import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dploss.cli.main import Parser, run
from dploss.config import TrainConfig
from dploss.evaluation.paired import half_width
from dploss.evaluation.query_data import QueryData, QuerySources, open_query_data
from dploss.evaluation.query_report import evaluate_queries
from dploss.experiments.history import PCA_RENORMALISED
from dploss.experiments.record import ExperimentRecord
from dploss.files.atomic import write_json
from dploss.models.build import load_encoder
from dploss.models.encoder import DPEncoder
from dploss.text import text_table
from dploss.training.launch import new_experiment
from dploss.training.run import ExperimentRun

_K = 10
_WITH, _WITHOUT = "DPLossV3, with queries", "DPLossV3, rows alone"


def parser() -> Parser:
    """The script's flags."""
    flags = Parser("retrieval.py", __doc__)
    flags.add_argument("--data", default="builtin", metavar="FILE", help="rows (default: %(default)s)")
    flags.add_argument("--queries", default="builtin", metavar="FILE", help="their queries (default: %(default)s)")
    flags.add_argument(
        "--qrels", default="builtin", metavar="FILE", help="their relevant rows, or 'none' (default: %(default)s)"
    )
    flags.add_argument("--dims", type=int, nargs="*", default=[64, 128], help="latent dimensions (default: 64 128)")
    flags.add_argument("--bytes", type=int, nargs="*", default=[32, 64, 128], help="of codes (default: 32 64 128)")
    flags.add_argument("--epochs", type=int, default=30, help="of the float encoders (default: %(default)s)")
    flags.add_argument("--seed", type=int, default=0, help="of splits and weights (default: %(default)s)")
    flags.add_argument("--out", type=Path, metavar="FILE", help="also write all figures as JSON")
    return flags


def measure(args: Namespace) -> int:
    """Train, evaluate, and print."""
    reports: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for size, encoders, data in trained(args, folder):
            reports[size] = evaluate_queries(encoders, data, [1, 5, _K]).as_dict()
            print("\n".join([size, *lines(reports[size]), ""]), flush=True)
    if args.out is not None:
        write_json(args.out, {"settings": {**vars(args), "out": None}, "reports": reports})
    return 0


def trained(args: Namespace, folder: str) -> Iterator[tuple[str, dict[str, DPEncoder], QueryData]]:
    """Sizes, their encoders by name, and what these are evaluated on."""
    config = TrainConfig(
        data=args.data,
        queries=args.queries,
        database=args.data,
        seed=args.seed,
        k=_K,
        save_interval=5,
        no_tensorboard=True,
        quiet=True,
        checkpoints_dir=folder,
    )
    sources = QuerySources(qrels=None if args.qrels == "none" else args.qrels)
    for dim in args.dims:
        sized = replace(config, latent_dim=dim, epochs=args.epochs)
        encoder, start, record = best(sized)
        rows_alone, *_ = best(replace(sized, queries=None, database=None))
        encoders = {_WITH: encoder, "its start": start, _WITHOUT: rows_alone}
        yield f"{dim} dimensions", encoders, open_query_data(record, sources)
    for n_bytes in args.bytes:
        sized = replace(config, bytes=n_bytes)
        encoder, _, record = best(sized)
        rows_alone, *_ = best(replace(sized, queries=None, database=None))
        yield f"{n_bytes} bytes", {_WITH: encoder, _WITHOUT: rows_alone}, open_query_data(record, sources)


def best(config: TrainConfig) -> tuple[DPEncoder, DPEncoder, ExperimentRecord]:
    """The best encoder of a training, its start, and the training's record."""
    training = new_experiment(config)
    assert isinstance(training, ExperimentRun)  # of one process
    training.run()
    folder = training.folder
    return load_encoder(folder), load_encoder(folder / "checkpoint_epoch_000.pth"), training.record


def lines(report: Mapping[str, Any]) -> list[str]:
    """A report as a table of Markdown's columns."""
    queries, rows = report["queries"], []
    retrieval = report.get("retrieval", {})
    for name in [*(["original"] if retrieval else []), *queries["recall"]]:
        if name.endswith(("x 2", "x 10")) or name.startswith("PCA,") != name.startswith(PCA_RENORMALISED):
            continue
        recall = queries["recall"].get(name, {}).get(_K)
        found, cells = retrieval.get(name), [""] * 3
        if found:
            near = (f"{found[one]:.4f} {half_width(found['intervals'][one])}" for one in ("ndcg@10", "recall@10"))
            cells = [*near, "" if found["share"] is None else f"{100 * found['share']:.1f} %"]
        rows.append([name, *cells, "" if recall is None else f"{recall:.4f}"])
    return text_table(["", "nDCG@10", "recall@10 of relevant", "kept", "recall@10 of nearest"], rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    return run(measure, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
