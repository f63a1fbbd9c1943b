"""Figures from histories and configs; imports no torch."""

from dploss.plots.comparison import comparison_figure
from dploss.plots.single import experiment_figure, quick_figure
from dploss.plots.style import figure_path, save, show

__all__ = ["comparison_figure", "experiment_figure", "figure_path", "quick_figure", "save", "show"]
