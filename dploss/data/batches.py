"""Which rows make which batch, in an order that memory and disks alike can follow."""

from collections.abc import Iterator

import numpy as np

from dploss.data import MappedRows

# Matrices of more bytes are read in blocks, whatever file they come from and however much memory there is: the
# same rows give the same batches everywhere.
LARGE = 2**30
# A disk reads a block of this size about as fast as many blocks in a row.
_BLOCK_BYTES = 2**20
# Blocks from all over the file whose rows are shuffled together.
WINDOW_BLOCKS = 256


def epoch_batches(indices: np.ndarray, batch_size: int, seed: int, epoch: int, block: int = 1) -> np.ndarray:
    """Shuffle the training rows into batches, the same way for the same seed and epoch.

    Args:
        indices: (n,) of the rows, sorted.
        batch_size: rows in a batch, at most n.
        seed: of the experiment.
        epoch: counted from 0.
        block: rows that are read together. With 1 every order of the rows is equally likely; with more, blocks are
            shuffled, then the rows within every WINDOW_BLOCKS of them.

    Returns:
        (steps, batch_size) row indices. The rows that fill no batch are left out of this epoch: every batch has the
        same size, on which the rank losses depend.
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(indices) if block == 1 else _shuffled_blocks(indices, block, generator)
    steps = len(indices) // batch_size
    return order[: steps * batch_size].reshape(steps, batch_size)


def _shuffled_blocks(indices: np.ndarray, block: int, generator: np.random.Generator) -> np.ndarray:
    # Other boundaries in every epoch: no two rows are always, or never, in one block.
    cuts = np.arange(generator.integers(1, block + 1), len(indices), block)
    blocks = np.split(indices, cuts)
    order = np.concatenate([blocks[index] for index in generator.permutation(len(blocks))])
    for start in range(0, len(order), block * WINDOW_BLOCKS):
        generator.shuffle(order[start : start + block * WINDOW_BLOCKS])
    return order


def query_batch(n_queries: int, batch_size: int, seed: int, step: int, multiple_of: int = 1) -> np.ndarray:
    """Draw the queries of a step, the same way for the same seed and step.

    Args:
        n_queries: how many there are.
        batch_size: how many are drawn, each once; all of fewer.
        seed: of the experiment.
        step: counted from 0.
        multiple_of: what the number of queries must be a multiple of; of fewer queries some are drawn twice.

    Returns:
        (min(batch_size, n_queries),) indices, as many as the multiple allows.
    """
    if not n_queries:
        return np.empty(0, int)
    generator = np.random.default_rng([seed, step, 1])
    size = max(min(batch_size, n_queries) // multiple_of, 1) * multiple_of
    return generator.choice(n_queries, size, replace=size > n_queries)


def block_rows(n_rows: int, dim: int) -> int:
    """Rows in a block, of `n_rows` float32 rows of `dim` dimensions; 1 where they are not large."""
    return 1 if 4 * n_rows * dim <= LARGE else max(2, _BLOCK_BYTES // (4 * dim))


def read_ahead(rows: np.ndarray | MappedRows, batches: np.ndarray, block: int) -> Iterator[np.ndarray]:
    """The batches, one after another; what is on the disk is asked for some steps before it is needed.

    Args:
        rows: all rows.
        batches: (steps, batch_size) row indices, by `epoch_batches`.
        block: as given to it.
    """
    ahead = max(1, block * WINDOW_BLOCKS // batches.shape[1])
    for step, batch in enumerate(batches):
        if isinstance(rows, MappedRows) and block > 1 and step % ahead == 0:
            # The next window is read while this one is trained on.
            coming = batches[step + (ahead if step else 0) : step + 2 * ahead]
            if len(coming):
                rows.prefetch(coming.ravel())
        yield batch
