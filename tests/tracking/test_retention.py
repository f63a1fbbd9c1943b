import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dploss.tracking.directions import known_direction
from dploss.tracking.ranking import Entry, Ranking
from dploss.tracking.retention import BestN, EveryNSeconds, EveryNSteps, LatestN, select

SCORES = st.one_of(st.none(), st.sampled_from([0.1, 0.2, 0.3, math.nan, math.inf, -math.inf]))


def entries(scores, name="recall"):
    return [
        Entry(f"{place}.pt", 100 * (place + 1), place, {} if score is None else {name: score}, place)
        for place, score in enumerate(scores)
    ]


def best_of(given_entries, name, k):
    return Ranking(name, True).ranked(given_entries)[:k]


@given(
    scores=st.lists(SCORES, max_size=12),
    higher=st.booleans(),
    k=st.integers(1, 4),
    every=st.sampled_from([1000, 200, 500]),
    spare_last=st.booleans(),
)
def test_every_checkpoint_has_one_fate(scores, higher, k, every, spare_last):
    given_entries = entries(scores)
    protected = {given_entries[-1].path} if spare_last and given_entries else set()
    found = select(given_entries, [Ranking("recall", higher)], k, [EveryNSteps(every)], protected)
    (best,) = found.best.values()
    finite = [one for one in given_entries if one.score("recall") is not None]
    assert len(best) == min(k, len(finite))
    # A plain loop: take the best of the rest, the newer of equals.
    rest = list(finite)
    for one in best:
        first = rest[0]
        for other in rest:
            better = (
                other.score("recall") > first.score("recall")
                if higher
                else other.score("recall") < first.score("recall")
            )
            if better or (other.score("recall") == first.score("recall") and other.order > first.order):
                first = other
        assert one is first
        rest.remove(first)
    unmeasured = [one for one in given_entries if "recall" not in one.metrics][-k:]
    for one in given_entries:
        wanted = one in best or one.path in protected or one.step % every == 0 or one in unmeasured
        assert wanted is (one not in found.to_delete)


def test_steps_are_numbers_not_text():
    # 9 and 10 score the same: the newer, 10, is the better one.
    given_entries = [Entry(f"epoch_{epoch}.pth", epoch, epoch, {"recall": 0.5}, epoch) for epoch in (8, 9, 10)]
    assert [one.epoch for one in best_of(given_entries, "recall", 2)] == [10, 9]


@pytest.mark.parametrize("value", [True, "0.5", None, [0.5]])
def test_what_is_no_number_is_no_score(value):
    assert Entry("a", 1, 1, {"recall": value}, 0).score("recall") is None


def composite(order, score, **parts):
    return Entry(f"{order}.pt", order, order, {"composite_score": score, **parts}, order)


def test_composites_of_other_parts_are_not_compared():
    old = [composite(0, 0.9, clip_score=0.9), composite(1, 0.8, clip_score=0.8)]
    new = composite(2, 0.3, clip_score=0.3, lpips=0.2)
    assert best_of([*old, new], "composite_score", 3) == [new, old[1], old[0]]
    # Made as before again: the old ones count again.
    again = composite(3, 0.85, clip_score=0.85)
    assert best_of([*old, new, again], "composite_score", 3) == [old[0], again, old[1]]


def test_parts_may_be_named():
    first = Entry("a", 1, 1, {"composite_score": 0.9, "composite_parts": ["clip_score"], "psnr": 20.0}, 0)
    second = Entry("b", 2, 2, {"composite_score": 0.8, "composite_parts": ["clip_score"]}, 1)
    assert best_of([first, second], "composite_score", 1) == [first]


@pytest.mark.parametrize(
    ("names", "higher"),
    [
        ("loss val_loss val/loss val.loss val-loss valLoss VAL_LOSS eval/rmse val_fid kid test.wer ppl d_KL", False),
        ("total_loss rank_loss lpips fid", False),
        ("accuracy val/acc f1 eval_f1 recall@10 rouge2 rougeL mAP mAP50 clip_score composite_score my_score R2", True),
        ("my_own x top1 top5 pnsr val_loss_total loss_weight inception_score_std", None),
        # Negated errors, or losses of negative samples: the name cannot say.
        ("neg_mean_squared_error neg_loss minus_ssim", None),
    ],
)
def test_the_last_part_of_a_name_says_the_direction(names, higher):
    assert {name: known_direction(name) for name in names.split()} == dict.fromkeys(names.split(), higher)


def steps(found):
    return [one.step for one in found]


def test_rules_keep_what_they_are_named_after():
    given_entries = [
        Entry(f"{order}{ema}.pt", step, 0, {"fid": fid}, order, seconds)
        for order, (step, ema, fid, seconds) in enumerate(
            [
                (100, "", 9.0, None),
                (200, "", 3.0, 1000.0),
                (250, "", math.nan, 1030.0),
                (300, "", 5.0, 1060.5),
                (300, "_ema", 4.0, 1061.0),
                (400, "", 7.0, 1090.0),
                (400, "_ema", 8.0, 1130.0),
            ]
        )
    ]
    assert steps(BestN("fid", 2)(given_entries)) == [200, 300]
    assert steps(BestN("fid", 2, higher_is_better=True)(given_entries)) == [100, 400]
    assert steps(LatestN(1)(given_entries)) == [400, 400]
    assert steps(LatestN(2)(given_entries)) == [300, 300, 400, 400]
    assert steps(EveryNSteps(200)(given_entries)) == [200, 400, 400]
    assert steps(EveryNSeconds(60)(given_entries)) == [200, 300, 400]
    assert steps(BestN("psnr", 2)(given_entries)) == [400, 400]


@pytest.mark.parametrize("rule", [LatestN, EveryNSteps, EveryNSeconds, lambda n: BestN("fid", n)])
def test_a_rule_of_none_is_refused(rule):
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        rule(0)
    with pytest.raises(ValueError, match="not known of 'speed': pass higher_is_better"):
        BestN("speed", 1)


def noisy(order, score, error=0.03):
    metrics = {"recall": score} if error is None else {"recall": score, "recall_se": error}
    return Entry(f"{order}.pt", order, 0, metrics, order)


@pytest.mark.parametrize(
    ("min_delta", "entries", "best"),
    [
        (0.0, [noisy(0, 0.5), noisy(1, 0.5)], [1, 0]),
        (0.1, [noisy(0, 0.5), noisy(1, 0.59)], [0, 1]),
        (0.1, [noisy(0, 0.5), noisy(1, 0.61)], [1, 0]),
        # What was compared is always the best before, so small gains add up.
        (0.1, [noisy(0, 0.5), noisy(1, 0.58), noisy(2, 0.62), noisy(3, 0.66)], [2, 3, 1, 0]),
        # sqrt(0.03² + 0.04²) = 0.05
        ("auto", [noisy(0, 0.5, 0.03), noisy(1, 0.549, 0.04)], [0, 1]),
        ("auto", [noisy(0, 0.5, 0.03), noisy(1, 0.551, 0.04)], [1, 0]),
        ("auto", [noisy(0, 0.5, None), noisy(1, 0.5, 0.04)], [1, 0]),
        ("auto", [noisy(0, 0.5, math.nan), noisy(1, 0.5, -1.0)], [1, 0]),
    ],
)
def test_a_new_best_must_exceed_the_band(min_delta, entries, best):
    assert steps(Ranking("recall", True, min_delta).ranked(entries)) == best
    fallen = [
        Entry(one.path, one.step, 0, {**one.metrics, "recall": -one.score("recall")}, one.order) for one in entries
    ]
    assert steps(Ranking("recall", False, min_delta).ranked(fallen)) == best


def test_the_incumbent_stays_though_what_it_exceeded_is_gone():
    ranking = Ranking("recall", True, 0.1)
    left = [noisy(2, 0.55), noisy(1, 0.56), noisy(3, 0.6)]
    assert steps(ranking.ranked(left, incumbent="2.pt")) == [2, 3, 1]
    # Unknown, or known no more: the first is where it begins.
    assert steps(ranking.ranked(left)) == steps(ranking.ranked(left, incumbent="0.pt")) == [1, 3, 2]
    assert ranking.tie(left[0], left[2]) == 0.1 and ranking.tie(left[0], noisy(4, 0.7)) is None
