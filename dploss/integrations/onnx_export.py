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


def export_onnx(encoder: DPEncoder | str | Path, path: str | Path) -> None:
    """Write an encoder as ONNX: "vectors" (N, D) float32 -> "latents" (N, d) float32, for any N.

    Where the encoder's code is float16, int8, int4 or binary, a second output "codes" (N, bytes) uint8 has what
    `encode_to_codes` gives, but for numbers at the border of two codes, of which rounding may take the other one.
    A trellis, scalar or pq code is not in the file: encode its latents with `encoder.code`.

    Needs the extra `onnx`: pip install 'dploss[onnx]'.

    Args:
        encoder: an encoder of vectors, or what `load_encoder` takes; it is not changed.
        path: of the .onnx file; an existing one is replaced atomically.

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
    code = code_module(model.code)
    graph = _Graph(model, code).to(device).eval()
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


def linear_map(encoder: DPEncoder) -> tuple[np.ndarray, np.ndarray]:
    """A linear encoder as a matrix and a bias: latents = vectors @ matrix.T + bias.

    Args:
        encoder: trained without hidden layers (hidden_dims=()).

    Returns:
        matrix (d, D) and bias (d,), float32.

    Raises:
        ValueError: the encoder is not linear.
    """
    if encoder.branch is not None or encoder.metric != "euclidean":
        why = "its metric is cosine" if encoder.branch is None else "it has hidden layers"
        raise ValueError(f"the encoder is not linear: {why}; train one with hidden_dims=()")
    with torch.no_grad():
        layer = encoder.linear
        # y = (weight @ (gain * (x - mean) / scale) + bias) / size, and z = scale * y.
        matrix = layer.weight.double() * layer.gain / layer.size
        bias = encoder.scale.double() * layer.bias.double() / layer.size - matrix @ encoder.mean.double()
    return matrix.float().numpy(force=True), bias.float().numpy(force=True)
