"""What test.py does with real queries: its flags, what of them does not go together, and their report."""

import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from dploss.cli.flags import PathFlag
from dploss.cli.main import Parser
from dploss.errors import InputError

if TYPE_CHECKING:
    from dploss.evaluation.query_report import QueryReport
    from dploss.experiments.checkpoints import Checkpoint
    from dploss.models.autoencoder import ConvAutoencoder
    from dploss.models.encoder import DPEncoder


def add_query_flags(flags: Parser) -> None:
    """Flags of real queries."""
    queries = flags.add_argument_group("real queries")
    queries.add_argument(
        "--queries",
        metavar="FILE",
        action=PathFlag,
        help="vectors that search the rows, and are none of them: a file as for --data, or 'builtin'; training queries "
        "among them are left out (default: the experiment's held-out queries, where it has any)",
    )
    queries.add_argument("--query-column", metavar="NAME", help="with --queries: the column that holds the vectors")
    queries.add_argument(
        "--database",
        metavar="FILE",
        action=PathFlag,
        help="the rows to search, all of them: a file as for --data, or 'builtin' (default: with --data its rows, else "
        "the experiment's held-out rows, and with --qrels all of its rows)",
    )
    queries.add_argument(
        "--qrels",
        metavar="FILE",
        action=PathFlag,
        help="which rows are relevant: TREC's 'query 0 row relevance', BEIR's .tsv (query-id, corpus-id, score), a "
        ".parquet of these columns, or 'builtin'; ids are values of the files' columns of ids, else numbers of rows "
        "from 0 (docs/DATA.md)",
    )


def query_problem(args: Namespace) -> str | None:
    """Which flags of queries do not go together."""
    if args.query_column and not args.queries:
        return "--query-column needs --queries"
    return None


def report_queries(
    args: Namespace, checkpoint: "Checkpoint", path: Path, encoder: "DPEncoder | ConvAutoencoder"
) -> "QueryReport | None":
    """Evaluate with the queries that are named, else the experiment's own; None where there are none.

    Raises:
        InputError: what is named cannot be used.
    """
    from dploss.evaluation.forms import start_of
    from dploss.evaluation.query_data import QuerySources, open_query_data
    from dploss.evaluation.query_report import evaluate_queries
    from dploss.experiments.record import ExperimentRecord

    record = ExperimentRecord.from_dict(checkpoint["config"])
    named = next((flag for flag in ("queries", "qrels", "database") if getattr(args, flag)), None)
    if named and record.config.images is not None:
        raise InputError(f"--{named}: queries search among vectors; this experiment is of images")
    if args.queries is None and record.config.queries is None:
        if named:
            raise InputError(f"--{named} needs --queries: the experiment has no queries of its own")
        return None
    sources = QuerySources(
        queries=args.queries,
        query_column=args.query_column,
        database=args.database,
        data=args.data,
        column=args.column,
        limit=args.limit,
        qrels=args.qrels,
        skip_bad_rows=args.skip_bad_rows,
    )
    try:
        data = open_query_data(record, sources)
    except InputError as error:
        if named:
            raise
        # Nobody asked for them: the rest of the report does not depend on them.
        print(f"the experiment's queries are left out: {error}", file=sys.stderr)
        return None
    return evaluate_queries({"encoder": encoder} | start_of(checkpoint, path, encoder), data, args.k)
