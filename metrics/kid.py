"""Kernel Inception Distance: an FID without bias, for few images too."""

import numpy as np

from metrics.mmd import MMD


class KID(MMD):
    """Unbiased squared MMD of Inception features, kernel (x.y / d + 1)^3 (Binkowski et al. 2018, arXiv:1801.01401).

    Around 0 for sets of one distribution, below 0 too, unbounded above; lower is better. Its expectation does not
    depend on the number of images, so values of different numbers can be compared. Of all images, as torch-fidelity
    computes it of one subset that is as large as the sets; the mean over random subsets is an estimate of the same
    with more variance.

    Raises:
        Unavailable: of less than two images or references; by `compute`.
    """

    name = "kid"
    higher_is_better = False
    unbiased = True
    # It has no bias at any number: enough for an interval to read.
    floor = 20

    def kernel(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """(x.y / d + 1)^3; see `MMD.kernel`."""
        return (first @ second.T / first.shape[1] + 1) ** 3
