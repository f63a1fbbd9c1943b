"""The definitions as plain float64 loops: slow, and easy to check by eye."""

import math

import numpy as np


def distances(rows: np.ndarray) -> np.ndarray:
    """(B, D) -> (B, B) Euclidean distances."""
    rows = np.asarray(rows, np.float64)
    return np.array([[math.dist(a, b) for b in rows] for a in rows])


def others(matrix: np.ndarray) -> np.ndarray:
    """(B, B) -> (B, B-1): each row without its diagonal entry."""
    return np.array([[value for j, value in enumerate(row) if j != i] for i, row in enumerate(matrix)])


def hard_rank(row: list[float]) -> list[int]:
    """1 + how many are strictly smaller."""
    return [1 + sum(other < value for other in row) for value in row]


def soft_rank(row: list[float], tau: float) -> list[float]:
    """1 + sum over the others of sigmoid((value - other) / tau)."""
    return [
        1 + sum(0.5 * (1 + math.tanh((value - other) / tau / 2)) for m, other in enumerate(row) if m != j)
        for j, value in enumerate(row)
    ]


def loss(
    name: str, x: np.ndarray, z: np.ndarray, k: int, lambda_rank: float, lambda_pairdist: float, tau: float
) -> tuple[float, float, float]:
    """(total, rank, pairdist) of a loss of the family, by its name."""
    return terms(name, others(distances(x)), others(distances(z)), k, lambda_rank, lambda_pairdist, tau)


def terms(
    name: str, d_x: np.ndarray, d_z: np.ndarray, k: int, lambda_rank: float, lambda_pairdist: float, tau: float
) -> tuple[float, float, float]:
    """The same of distances (n, m), from each of n to m others."""
    tau *= d_x.std()
    if name == "DPLossV3":
        near = [
            [[math.exp(-(d**2) / (2 * d_x.mean() * tau)) for d in row] for row in matrix.tolist()]
            for matrix in (d_x, d_z)
        ]
        p, q = ([[value / sum(row) for value in row] for row in matrix] for matrix in near)
        rank = np.mean(
            [sum(a * math.log(a / b) for a, b in zip(*rows, strict=True)) for rows in zip(p, q, strict=True)]
        )
        pairdist = ((d_z - d_x) ** 2).mean()
        return lambda_rank * rank + lambda_pairdist * pairdist, rank, pairdist
    if "V1" in name:
        ranks_x = np.array([hard_rank(list(row)) for row in d_x], np.float64)
        ranks_z = np.array([hard_rank(list(row)) for row in d_z], np.float64)
    else:
        ranks_x = np.array([soft_rank(list(row), tau) for row in d_x])
        ranks_z = np.array([soft_rank(list(row), tau) for row in d_z])
    if name.endswith("Norm"):
        ranks_x, ranks_z = (ranks_x - 1) / (d_x.shape[1] - 1), (ranks_z - 1) / (d_x.shape[1] - 1)
    difference = ranks_x - ranks_z
    rank = np.abs(difference).mean() / k if "V1" in name else (difference**2).mean()
    pairdist = ((d_z - d_x) ** 2).mean()
    return lambda_rank * rank + lambda_pairdist * pairdist, rank, pairdist


def recall(original: np.ndarray, latent: np.ndarray, k: int, fetched: int | None = None) -> float:
    """Fetch the nearest latents, keep the k of them nearest by original; the share that is within the k-th distance."""
    d_x, d_z = distances(original), distances(latent)
    found = 0
    for i in range(len(original)):
        others = [j for j in range(len(original)) if j != i]
        kth = sorted(d_x[i, j] for j in others)[k - 1]
        candidates = sorted(others, key=lambda j: d_z[i, j])[: fetched or k]
        kept = sorted(candidates, key=lambda j: d_x[i, j])[:k]
        found += sum(d_x[i, j] <= kth for j in kept)
    return found / (k * len(original))
