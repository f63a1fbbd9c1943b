"""What test.py does: an encoder beside PCA, truncation and random projection, on rows it has not seen."""

from dploss.judging.neighbour_texts import neighbour_lines
from dploss.judging.report import Report, examine
from dploss.judging.rows import JudgedRows, other_rows, own_rows

__all__ = ["JudgedRows", "Report", "examine", "neighbour_lines", "other_rows", "own_rows"]
