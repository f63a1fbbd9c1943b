"""Originals and latents side by side, each projected to two dimensions and aligned: do the same rows stay together?"""

import numpy as np
from matplotlib.figure import Figure
from scipy.linalg import orthogonal_procrustes
from sklearn.cluster import KMeans
from sklearn.manifold import TSNE

from dploss.plots.style import COLOURS, new_figure

METHODS = ("tsne", "pca")
_MOST = 2000
_MARGIN = 1.06


def spaces_figure(original: np.ndarray, latent: np.ndarray, method: str, title: str) -> Figure:
    """Draw both spaces on the same axes: a row has one colour, by k-means clusters of the originals.

    Args:
        original: (N, D) vectors; up to 2,000 are drawn, evenly spaced.
        latent: (N, d) their latents.
        method: tsne (van der Maaten & Hinton 2008; both initialised from the originals' PCA) or pca (each its own).
        title: above both.
    """
    chosen = np.linspace(0, len(original) - 1, min(len(original), _MOST)).astype(int)
    original, latent = original[chosen], latent[chosen]
    n_clusters = min(len(COLOURS), len(np.unique(original, axis=0)))
    clusters = KMeans(n_clusters, n_init=4, random_state=0).fit_predict(original)
    colours = [COLOURS[cluster] for cluster in clusters]
    plane = _plane(original)
    if method == "tsne":
        points = aligned_planes(_tsne(original, plane), _tsne(latent, plane))
    else:
        points = aligned_planes(plane, _plane(latent))
    lowest, highest = np.vstack(points).min(axis=0), np.vstack(points).max(axis=0)
    middle, reach = (lowest + highest) / 2, _MARGIN * (highest - lowest).max() / 2 or 1
    (left, below), (right, above) = middle - reach, middle + reach
    # Few points are drawn large, many small.
    size = np.clip(4000 / len(chosen), 7, 40)

    figure = new_figure(13, 7.2)
    panels = figure.subplots(1, 2)
    for panel, name, rows, of_rows in zip(panels, ("Originals", "Latents"), (original, latent), points, strict=True):
        panel.scatter(*of_rows.T, s=size, c=colours, alpha=0.75, linewidths=0)
        dimensions = "dimension" if rows.shape[1] == 1 else "dimensions"
        panel.set(title=f"{name}, {rows.shape[1]} {dimensions}", xticks=[], yticks=[])
        panel.set(xlim=(left, right), ylim=(below, above), aspect="equal")
        panel.spines[:].set(visible=True, color="#cccccc")
    drawn = "t-SNE" if method == "tsne" else "PCA"
    caption = (
        f"{drawn} of {len(chosen):,} rows, the latents rotated or mirrored onto the originals; "
        "colours are k-means clusters of the originals"
    )
    figure.suptitle(f"{title}\n{caption}", size=11, y=0.98)
    figure.subplots_adjust(left=0.02, right=0.98, top=0.85, bottom=0.03, wspace=0.04)
    return figure


def aligned_planes(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two maps of the same rows so that they compare: centred, of one scale, the second turned onto the first.

    Args:
        first: (N, 2).
        second: (N, 2).

    Returns:
        Both with mean 0 and mean squared norm 1, 0 where all rows are one point; the second rotated or mirrored to the
        least squared distance from the first (orthogonal Procrustes, Schönemann 1966).
    """
    first, second = _standardised(first), _standardised(second)
    rotation, _ = orthogonal_procrustes(second, first)
    return first, second @ rotation


def _standardised(points: np.ndarray) -> np.ndarray:
    centred = points.astype(np.float64) - points.mean(axis=0, dtype=np.float64)
    return centred / (np.sqrt(np.square(centred).sum(axis=1).mean()) or 1)


def _plane(rows: np.ndarray) -> np.ndarray:
    """(N, 2) principal components; the second is 0 where the rows have only one dimension."""
    left, sizes, _ = np.linalg.svd(rows - rows.mean(axis=0, dtype=np.float64), full_matrices=False)
    return np.pad(left[:, :2] * sizes[:2], ((0, 0), (0, max(0, 2 - len(sizes)))))


def _tsne(rows: np.ndarray, plane: np.ndarray) -> np.ndarray:
    """t-SNE from an initialisation scaled to the small standard deviation that scikit-learn recommends."""
    plane = (1e-4 * plane / (plane[:, 0].std() or 1)).astype(np.float32)
    perplexity = min(30, (len(rows) - 1) / 3)
    return TSNE(perplexity=perplexity, init=plane, random_state=0).fit_transform(rows)
