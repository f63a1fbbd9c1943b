"""Encoders without torch: as an ONNX file, and a linear one as a matrix and a bias."""

import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from dploss.errors import InputError
from dploss.files.atomic import atomic_write
from dploss.files.given import expanded
from dploss.integrations.onnx_codes import CodeModule, code_module
from dploss.models.asymmetric import AsymmetricEncoder
from dploss.models.build import load_encoder
from dploss.models.encoder import DPEncoder


class _Graph(nn.Module):
    """What the file computes: latents, and their codes where the encoder has one that a graph can have."""

    def __init__(self, encoder: nn.Module, to_codes: CodeModule | None) -> None:
        super().__init__()
        self.encoder, self.to_codes = encoder, to_codes

    def forward(self, vectors: Tensor) -> tuple[Tensor, ...]:
        latents = self.encoder(vectors)
        return (latents,) if self.to_codes is None else (latents, self.to_codes(latents))


class _QuerySide(nn.Module):
    """The other side of an encoder that has two."""

    def __init__(self, encoder: AsymmetricEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, queries: Tensor) -> Tensor:
        return self.encoder.query_latents(queries)


def export_onnx(encoder: DPEncoder | str | Path, path: str | Path, queries: bool = False) -> None:
    """Write an encoder as ONNX: "vectors" (N, D) float32 -> "latents" (N, d) float32, for any N.

    Where the encoder's code is float16, int8, int4 or binary, a second output "codes" (N, bytes) uint8 has what
    `encode_to_codes` gives, but for numbers at the border of two codes, of which rounding may take the other one.
    A trellis, scalar or pq code is not in the file: encode its latents with `encoder.code`.

    Needs the extra `onnx`: pip install 'dploss[onnx]'.

    Args:
        encoder: an encoder of vectors, or what `load_encoder` takes; it is not changed.
        path: of the .onnx file; an existing one is replaced atomically.
        queries: write what `encode_queries` gives, without codes: of an AsymmetricEncoder, whose rows and queries are
            two files, the side of the queries. Latents are compared as the encoder's latent_metric says.

    Raises:
        InputError: the encoder cannot be loaded, or a package is not installed.
    """
    model = load_encoder(encoder) if isinstance(encoder, str | Path) else encoder
    device, training = model.mean.device, model.training
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError("export_onnx needs more packages: pip install 'dploss[onnx]'") from error
    example = torch.zeros(2, model.input_dim, device=device)
    example[:, 0] = 1
    code = None if queries else code_module(model.code)
    side = _QuerySide(model) if queries and isinstance(model, AsymmetricEncoder) else model
    graph = _Graph(side, code).to(device).eval()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                graph,
                (example,),
                input_names=["vectors"],
                output_names=["latents"] if code is None else ["latents", "codes"],
                dynamic_shapes=({0: torch.export.Dim("rows")},),
                dynamo=True,
                verbose=False,
            )
    finally:
        model.train(training)
    assert program is not None  # with dynamo=True
    with atomic_write(expanded(path)) as file:
        file.write(program.model_proto.SerializeToString())


def linear_map(encoder: DPEncoder, queries: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """A linear encoder as a matrix and a bias: latents = vectors @ matrix.T + bias.

    The side of the queries of an AsymmetricEncoder is linear unless its metric is cosine; that of the rows with metric
    ip and without hidden layers.

    Args:
        encoder: trained without hidden layers (hidden_dims=()).
        queries: the map of `encode_queries`, which differs from that of `encode` in an AsymmetricEncoder.

    Returns:
        matrix (d, D) and bias (d,), float32.

    Raises:
        ValueError: that side of the encoder is not linear.
    """
    two_sided = encoder if isinstance(encoder, AsymmetricEncoder) else None
    of_queries = queries and two_sided is not None
    if encoder.metric == "cosine":
        raise ValueError("the encoder is not linear: its metric is cosine, which normalises vectors")
    if not of_queries and encoder.branch is not None:
        raise ValueError("the encoder is not linear: it has hidden layers; train one with hidden_dims=()")
    if not of_queries and two_sided is not None and encoder.metric == "euclidean":
        raise ValueError("the encoder is not linear: rows have their squared norm beside them; with metric ip it is")
    with torch.no_grad():
        layer = two_sided.query_linear if two_sided is not None and queries else encoder.linear
        # z = scale * (weight @ (gain * v) + bias) / size, where v is (x - mean) / scale, or that sphered.
        matrix = layer.weight.double() * layer.gain / layer.size
        bias = encoder.scale.double() * layer.bias.double() / layer.size
        if two_sided is not None:
            matrix = matrix @ (two_sided.query_sphering if queries else two_sided.row_sphering).double().T
        if matrix.shape[1] > encoder.input_dim:
            # Queries have -1 beside them.
            matrix, last = matrix[:, :-1], matrix[:, -1]
            bias = bias - encoder.scale.double() * last
        if not of_queries or encoder.metric == "euclidean":
            bias = bias - matrix @ encoder.mean.double()
    return matrix.float().numpy(force=True), bias.float().numpy(force=True)
