import math

import pytest
from wcwidth import wcswidth

from dploss.text import (
    LINE,
    aligned,
    beginning,
    counted,
    did_you_mean,
    duration,
    elided,
    fitted_table,
    metric_texts,
    metric_title,
    narrow_table,
    number,
    shown,
    text_table,
    wrapped,
    wrapped_list,
)

# Hangul in one code point a syllable and in several, a combining accent, a wide emoji, a flag of two letters.
WIDE_NAMES = ("임베딩.parquet", "\u1112\u1161\u11ab.npy", "cafe\u0301.npy", "🦊.npy", "🇰🇷.npy", "plain.npy")


def test_columns_are_as_wide_as_their_widest_cell():
    lines = text_table(("name", "loss"), [("a", "1.5"), ("longer", "10")], left=1)
    assert lines == ["name    loss", "a        1.5", "longer    10"]


def test_facts_are_aligned():
    assert aligned({"a": "1", "long": "2"}) == ["a     1", "long  2"]


def test_columns_start_at_one_column_of_the_terminal():
    lines = text_table(("name", "tau", "loss"), [(name, name, "0.50") for name in WIDE_NAMES], left=2)
    assert {wcswidth(line) for line in lines} == {wcswidth(lines[0])}
    for name, line in zip(WIDE_NAMES, lines[1:], strict=True):
        second = line.index(name, len(name))
        assert wcswidth(line[:second]) == wcswidth(lines[0][: lines[0].index("tau")])
        assert line.endswith("  0.50")
    facts = aligned(dict.fromkeys(WIDE_NAMES, "|"))
    assert {wcswidth(line) for line in facts} == {wcswidth(WIDE_NAMES[0]) + 3}


@pytest.mark.parametrize("cell", ["1e5", "007", "nan", "None", "1,000", "-0.10"])
def test_cells_are_not_taken_for_numbers(cell):
    assert text_table(("a", "b"), [(cell, cell)])[1].split() == [cell, cell]


def test_blanks_that_indent_a_name_stay():
    assert aligned({"recall": "0.5", "  PCA": "0.4"}) == ["recall  0.5", "  PCA   0.4"]
    assert aligned({}) == []


@pytest.mark.parametrize("name", WIDE_NAMES)
def test_cut_text_is_as_wide_as_asked_at_most(name):
    for width in range(1, 40):
        short = elided(3 * name, width)
        assert wcswidth(short) <= width
        assert short == 3 * name or "…" in short


@pytest.mark.parametrize(
    ("text", "width", "short"),
    [
        ("한국어_문장_임베딩.parquet", 13, "한국….parquet"),
        ("한국어_문장_임베딩.parquet", 10, "한……arquet"),
        ("short", 5, "short"),
        ("a_very_long_name.parquet", 12, "a_ve…parquet"),
        ("two\nlines", 20, "two lines"),
        ("abc", 1, "…"),
    ],
)
def test_long_text_is_cut_in_the_middle(text, width, short):
    assert elided(text, width) == short


@pytest.mark.parametrize(
    ("value", "text"), [(0.0089168, "0.008917"), (1759.09, "1759"), (math.nan, "-"), (math.inf, "-"), (None, "-")]
)
def test_numbers_that_are_none_are_dashes(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), ([768, 64], "768 64"), ((), "none"), (0.001, "0.001"), (1.0, "1"), ("pca", "pca")]
)
def test_settings_read_as_flags(value, text):
    assert shown(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3725, "1:02:05"), (math.nan, "-"), (math.inf, "-")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_metrics_read_as_people_write_them():
    names = ("clip_score", "lpips", "inception_score", "fid", "composite_score", "my_own", "cmmd", "fd_dinov2")
    titles = ["CLIP Score", "LPIPS", "Inception Score", "FID", "Composite Score", "My Own", "CMMD", "FD DINOv2"]
    assert [metric_title(name) for name in names] == titles
    values = {"lpips": 0.12345, "lpips_se": 0.1, "fid": 12.345, "num_images": 20, "notes": []}
    assert metric_texts(values) == ["lpips: 0.1235", "fid: 12.35"]
    assert metric_texts({"total_loss": 1.234e-6, "rank_loss": 0.0}) == ["total_loss: 1.2e-06", "rank_loss: 0.0000"]


def test_one_thing_is_named_in_the_singular():
    assert [counted(n, "row") for n in (0, 1, 2000)] == ["0 rows", "1 row", "2,000 rows"]
    assert [counted(n, "process", "processes") for n in (1, 2)] == ["1 process", "2 processes"]


def test_the_word_that_was_meant_is_near():
    assert did_you_mean("--epoch", ["--epochs", "--device"]) == "; did you mean --epochs?"
    assert did_you_mean("dplossv3", ["DPLossV2", "DPLossV3"]) == "; did you mean DPLossV3?"
    assert did_you_mean("x", ["recall"]) == did_you_mean("recall", []) == ""


def test_long_facts_go_on_in_the_next_line():
    first, second = aligned({"size": "1", "settings": "name=value, " * 8})[1:]
    assert first == "settings  " + "name=value, " * 4 + "name=value," and second.startswith("          name=value")


def test_lists_break_between_their_items_alone():
    assert wrapped_list("  a: ", ["b c", "d e", "f g"], indent=5, width=12) == ["  a: b c,", "     d e,", "     f g"]
    # A flag stays whole.
    assert wrapped("give another --latent-dim here", 2, 20) == ["give another", "  --latent-dim here"]


@pytest.mark.parametrize("name", WIDE_NAMES)
def test_text_that_is_too_long_loses_its_end(name):
    for width in range(1, 40):
        assert wcswidth(beginning(3 * name, width)) <= width
    assert beginning(name, 30) == name and beginning("one two three", 9) == "one two…"


def test_a_wide_table_becomes_several_of_the_same_rows():
    header, row = ["name", *(f"column_{number}" for number in range(12))], ["row", *map(str, range(12))]
    lines = narrow_table(header, [row])
    assert max(map(len, lines)) <= LINE and lines[2] == ""
    assert [line.split()[0] for line in lines if line] == ["name", "row", "name", "row"]
    assert [cell for line in lines[1::3] for cell in line.split()[1:]] == row[1:]
    assert narrow_table(header[:3], [row[:3]]) == text_table(header[:3], [row[:3]])


def test_a_table_fits_by_one_of_its_columns():
    rows = [["1", "한국어_" * 20, "0.5"], ["2", "short", "0.25"]]
    lines = fitted_table(["#", "name", "loss"], rows, left=2, elastic=1)
    assert {wcswidth(line) for line in lines} == {LINE} and "…" in lines[1] and "short" in lines[2]
