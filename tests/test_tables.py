import math

import pytest

from dploss.text import aligned, duration, elided, metric_title, metrics_text, number, shown, text_table


def test_columns_are_as_wide_as_their_widest_cell():
    lines = text_table(("name", "loss"), [("a", "1.5"), ("longer", "10")], left=1)
    assert lines == ["name    loss", "a        1.5", "longer    10"]


def test_facts_are_aligned():
    assert aligned({"a": "1", "long": "2"}) == ["a     1", "long  2"]


@pytest.mark.parametrize(
    ("text", "width", "short"),
    [
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
    names = ("clip_score", "lpips", "inception_score", "fid", "composite_score", "my_own")
    titles = ["CLIP Score", "LPIPS", "Inception Score", "FID", "Composite Score", "My Own"]
    assert [metric_title(name) for name in names] == titles
    assert metrics_text({"lpips": 0.12345, "fid": 12.345, "num_images": 20, "notes": []}) == "lpips: 0.1235, fid: 12.35"
