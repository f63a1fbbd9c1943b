"""Originals and latents side by side, each projected to two dimensions: do the same groups stay together?"""

import numpy as np
from matplotlib.figure import Figure
from sklearn.cluster import KMeans
from sklearn.manifold import TSNE

from dploss.data.split import evenly_spaced
from dploss.models.pca import PCA
from dploss.plots.style import COLOURS, new_figure

METHODS = ("tsne", "pca")
_MOST = 2000


def spaces_figure(original: np.ndarray, latent: np.ndarray, method: str, title: str) -> Figure:
    """Draw both spaces, coloured by k-means clusters of the originals.

    Args:
        original: (N, D) vectors; up to 2,000 are drawn, evenly spaced.
        latent: (N, d) their latents.
        method: tsne (van der Maaten & Hinton 2008; both initialised from the originals' PCA) or pca (each its own).
        title: above both.
    """
    chosen = evenly_spaced(len(original), _MOST)
    original, latent = original[chosen], latent[chosen]
    clusters = KMeans(min(len(COLOURS), len(original)), n_init=4, random_state=0).fit_predict(original)
    plane = _plane(original)
    figure = new_figure(13, 6.6)
    for panel, (name, rows) in zip(figure.subplots(1, 2), (("Originals", original), ("Latents", latent)), strict=True):
        points = _tsne(rows, plane) if method == "tsne" else _plane(rows)
        panel.scatter(*points.T, s=9, c=[COLOURS[cluster] for cluster in clusters], alpha=0.75, linewidths=0)
        panel.set(
            title=f"{name}, {rows.shape[1]} dimensions", xticks=[], yticks=[], aspect="equal", adjustable="datalim"
        )
        panel.spines[:].set_visible(False)
    drawn = "t-SNE" if method == "tsne" else "PCA"
    caption = f"{drawn} of {len(original):,} rows; colours are k-means clusters of the originals"
    figure.suptitle(f"{title}\n{caption}", size=11, y=0.98)
    figure.subplots_adjust(left=0.03, right=0.97, top=0.84, bottom=0.04, wspace=0.06)
    return figure


def _plane(rows: np.ndarray) -> np.ndarray:
    """(N, 2) principal components; the second is 0 where the rows have only one dimension."""
    size = min(2, rows.shape[1])
    return np.pad(PCA.fit(rows, size).encode(rows), ((0, 0), (0, 2 - size)))


def _tsne(rows: np.ndarray, plane: np.ndarray) -> np.ndarray:
    """t-SNE from an initialisation scaled to the small standard deviation that scikit-learn recommends."""
    plane = 1e-4 * plane / (plane[:, 0].std() or 1)
    perplexity = min(30, (len(rows) - 1) / 3)
    return TSNE(perplexity=perplexity, init=plane, random_state=0).fit_transform(rows)
