import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dploss.tracking.retention import Entry, select

SCORES = st.one_of(st.none(), st.sampled_from([0.1, 0.2, 0.3, math.nan, math.inf, -math.inf]))


def entries(scores, name="recall"):
    return [
        Entry(f"{place}.pt", 100 * (place + 1), place, {} if score is None else {name: score}, place)
        for place, score in enumerate(scores)
    ]


@given(
    scores=st.lists(SCORES, max_size=12),
    higher=st.booleans(),
    k=st.integers(1, 4),
    every=st.sampled_from([0, 200, 500]),
    spare_last=st.booleans(),
)
def test_every_checkpoint_has_one_fate(scores, higher, k, every, spare_last):
    given_entries = entries(scores)
    protected = {given_entries[-1].path} if spare_last and given_entries else set()
    found = select(given_entries, "recall", higher, k, every, protected)
    assert sorted(one.order for one in [*found.best, *found.kept, *found.to_delete]) == list(range(len(scores)))

    finite = [one for one in given_entries if one.score("recall") is not None]
    assert len(found.best) == min(k, len(finite))
    # A plain loop: take the best of the rest, the newer of equals.
    rest = list(finite)
    for one in found.best:
        best = rest[0]
        for other in rest:
            better = (
                other.score("recall") > best.score("recall") if higher else other.score("recall") < best.score("recall")
            )
            if better or (other.score("recall") == best.score("recall") and other.order > best.order):
                best = other
        assert one is best
        rest.remove(best)
    for one in found.to_delete:
        assert one.path not in protected and (every == 0 or one.step % every)
    for one in found.kept:
        assert one.path in protected or one.step % every == 0


def test_steps_are_numbers_not_text():
    # 9 and 10 score the same: the newer, 10, is the better one.
    given_entries = [Entry(f"epoch_{epoch}.pth", epoch, epoch, {"recall": 0.5}, epoch) for epoch in (8, 9, 10)]
    assert [one.epoch for one in select(given_entries, "recall", True, 2, 0).best] == [10, 9]


@pytest.mark.parametrize("value", [True, "0.5", None, [0.5]])
def test_what_is_no_number_is_no_score(value):
    assert Entry("a", 1, 1, {"recall": value}, 0).score("recall") is None


def composite(order, score, **parts):
    return Entry(f"{order}.pt", order, order, {"composite_score": score, **parts}, order)


def test_composites_of_other_parts_are_not_compared():
    old = [composite(0, 0.9, clip_score=0.9), composite(1, 0.8, clip_score=0.8)]
    new = composite(2, 0.3, clip_score=0.3, lpips=0.2)
    assert select([*old, new], "composite_score", True, 3, 0).best == [new, old[1], old[0]]
    # Made as before again: the old ones count again.
    again = composite(3, 0.85, clip_score=0.85)
    assert select([*old, new, again], "composite_score", True, 3, 0).best == [old[0], again, old[1]]


def test_parts_may_be_named():
    first = Entry("a", 1, 1, {"composite_score": 0.9, "composite_parts": ["clip_score"], "psnr": 20.0}, 0)
    second = Entry("b", 2, 2, {"composite_score": 0.8, "composite_parts": ["clip_score"]}, 1)
    assert select([first, second], "composite_score", True, 1, 0).best == [first]
