"""What benchmarks/bytes.py compares: dploss's codes, fitted or trained, and others at as many bytes.

Every method is fitted to training rows, and ranks the rows of a database for float queries, all bytes counted.
"""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from bytes_ash import ash
from bytes_binary import BINARY, Hamming
from bytes_faiss import FAISS, Faiss
from bytes_others import OTHERS
from bytes_search import Method, Scored

from dploss.codes.build import CODES
from dploss.config import TrainConfig
from dploss.evaluation.peers import Peer, closed_form, opq, opq_norm_restored, rabitq
from dploss.models.base import Encoder
from dploss.models.build import load_encoder
from dploss.training.launch import new_experiment


def trained(code: str, rows: np.ndarray, n_bytes: int) -> Peer:
    """train.py --bytes --code, with its default of one epoch (docs/BYTES.md); no rows are held out."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npy"
        np.save(path, rows)
        config = TrainConfig(
            data=str(path),
            bytes=n_bytes,
            code=code,  # type: ignore[arg-type]  # its choices
            val_fraction=0,
            checkpoints_dir=folder,
            no_tensorboard=True,
            quiet=True,
        )
        run = new_experiment(config)
        run.run()
        encoder = load_encoder(Path(folder) / f"{run.record.origin.experiment_id}" / "latest_model.pth")  # type: ignore[attr-defined]
    assert isinstance(encoder, Encoder) and encoder.code is not None
    return Peer(encoder.encode, encoder.code, sum(value.nbytes for value in encoder.state_dict().values()))


_SCORED: dict[str, Callable[[np.ndarray, int], Peer]] = {
    "trained": partial(trained, "trellis"),
    "trained int8": partial(trained, "int8"),
    "trained binary": partial(trained, "binary"),
    **{name: partial(closed_form, name) for name in CODES},
    "OPQ, norm restored": opq_norm_restored,
    "RaBitQ, PCA": rabitq,
    **{f"ASH, {bits} bit{'s' * (bits > 1)}": ash(bits) for bits in (1, 2, 4)},
}
METHODS: dict[str, Callable[[np.ndarray, int], Method]] = {
    **{name: (lambda rows, n_bytes, fit=fit: Scored(fit(rows, n_bytes))) for name, fit in _SCORED.items()},  # type: ignore[misc]
    "OPQ": lambda rows, n_bytes: Faiss(opq(rows, n_bytes)),
    "trained binary, Hamming": lambda rows, n_bytes: Hamming(Scored(trained("binary", rows, n_bytes))),
    **BINARY,
    **FAISS,
    **OTHERS,
}
SLOW = (*(name for name in METHODS if name.startswith("trained")), "OPQ", "OPQ, norm restored", "RQ, PCA")
