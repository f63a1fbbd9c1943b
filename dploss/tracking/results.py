"""What a tracker shows of the best checkpoints: a summary for people, and one for programs."""

from collections.abc import Mapping, Sequence
from typing import Any

from dploss.text import metric_texts, number, wrapped_list
from dploss.tracking.ranking import Entry, Ranking
from dploss.tracking.state import records, written

BEST_RESULTS = "best_checkpoint_results.json"


def summary(best: Mapping[Ranking, Sequence[Entry]], save_top_k: int, width: int | None) -> str:
    """The best checkpoints as text.

    Args:
        best: the checkpoints by every ranking, the main one first, best first.
        save_top_k: how many are kept.
        width: of its lines at most; None: the metrics of a checkpoint are one line, however many they are.
    """
    lines = ["=== Best Checkpoint Summary ==="]
    for ranking, top in best.items():
        lines += [f"Tracking metric: {ranking.metric_name}", f"Saved checkpoints: {len(top)}/{save_top_k}"]
        for place, entry in enumerate(top, start=1):
            lines += [
                f"  #{place}: Step {entry.step}, Epoch {entry.epoch}",
                f"      Path: {entry.path}",
                *_metric_lines(entry, width),
            ]
            tie = ranking.tie(top[0], entry) if place > 1 else None
            if tie is not None:
                lines.append(f"      tie with #1 within ±{number(tie)}")
    return "\n".join([*lines, "=" * 32])


def _metric_lines(entry: Entry, width: int | None) -> list[str]:
    heading, texts = "      Metrics: ", metric_texts(entry.metrics)
    return [heading + ", ".join(texts)] if width is None else wrapped_list(heading, texts, len(heading), width)


def results(best: Mapping[Ranking, Sequence[Entry]], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The content of best_checkpoint_results.json.

    Args:
        best: as `summary`.
        settings: the tracker's.
    """
    main, *further = [(ranking, records(top, ranking)) for ranking, top in best.items()]
    details = {
        ranking.metric_name: {"higher_is_better": ranking.higher_is_better, **_best_and_all(found)}
        for ranking, found in further
    }
    return {**written(settings, details), **_best_and_all(main[1])}


def _best_and_all(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {"best": found[0] if found else None, "checkpoints": found}
