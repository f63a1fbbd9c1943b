"""Let a person choose experiments from a numbered list: 2, 1,3,5, 1-4, all, or prefixes of ids."""

import re
import sys
from collections.abc import Sequence

from dploss.errors import InputError
from dploss.experiments.catalog import Experiment, match_id


def choose(experiments: Sequence[Experiment], answer: str) -> list[Experiment]:
    """The experiments that an answer names, in its order, each once.

    Args:
        experiments: the list as it was shown, numbered from 1.
        answer: numbers, ranges (1-4), ids or unique prefixes of them, apart by commas or blanks; or "all". A whole
            number that is in the list is a place in it, not a prefix.

    Raises:
        InputError: a part that names none, or several.
    """
    parts = re.split(r"[,\s]+", answer.strip())
    places: list[int] = []
    for part in parts:
        places += range(len(experiments)) if part == "all" else _places(experiments, part)
    return [experiments[place] for place in dict.fromkeys(places)]


def _places(experiments: Sequence[Experiment], part: str) -> Sequence[int]:
    span = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", part, re.ASCII)
    if span:
        first, last = int(span[1]), int(span[2] or span[1])
        if 1 <= first <= last <= len(experiments):
            return range(first - 1, last)
    ids = [experiment.id for experiment in experiments]
    return [ids.index(match_id(ids, part, f"the list of {len(ids)}"))]


def ask(experiments: Sequence[Experiment], question: str, several: bool) -> list[Experiment]:
    """Ask on stderr, read from stdin, and ask again until the answer can be used.

    Args:
        experiments: the list as it was shown, newest first.
        question: what to print, without the colon.
        several: whether more than one may be chosen; Enter alone means all of them, else the newest.

    Raises:
        InputError: the input ended without an answer.
    """
    while True:
        print(f"{question}: ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            raise InputError("no experiment was chosen")
        try:
            chosen = choose(experiments, line.strip() or ("all" if several else "1"))
        except InputError as error:
            print(error, file=sys.stderr)
            continue
        if several or len(chosen) == 1:
            return chosen
        print("choose one", file=sys.stderr)
