"""The simple codes as modules of torch, for a graph: latents -> the bytes that `Code.encode` gives."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dploss.codes.binary import BinaryCode
from dploss.codes.code import Code
from dploss.codes.elementwise import ElementwiseCode, Float16Code, Int4Code, Int8Code
from dploss.codes.rotation import RotatedCode
from dploss.codes.trained_binary import TrainedBinaryCode
from dploss.codes.trained_elementwise import TrainedFloat16Code, TrainedInt4Code, TrainedInt8Code, unrounded

_LEAST_EXPONENT, _HALF_DIGITS, _LARGEST_HALF = -14, 10, 65504.0


class CodeModule(nn.Module):
    """A code along the axes of a rotation, in float32.

    Args:
        code: fitted.
    """

    mean: Tensor
    axes: Tensor

    def __init__(self, code: RotatedCode) -> None:
        super().__init__()
        self.scale = code.rotation.scale
        self.register_buffer("mean", torch.from_numpy(np.array(code.rotation.mean)))
        self.register_buffer("axes", torch.from_numpy(np.array(code.rotation.axes)))

    @abstractmethod
    def forward(self, latents: Tensor) -> Tensor:
        """(N, d) latents -> (N, bytes_per_vector) uint8."""


class BinaryModule(CodeModule):
    """See `BinaryCode`."""

    def forward(self, latents: Tensor) -> Tensor:
        """See `CodeModule.forward`."""
        return _packed(((latents - self.mean) / self.scale) @ self.axes > 0)


class TrainedBinaryModule(CodeModule):
    """See `TrainedBinaryCode`."""

    thresholds: Tensor
    error_axes: Tensor
    squares: Tensor

    def __init__(self, code: TrainedBinaryCode) -> None:
        super().__init__(code)
        self.most_flips = code.most_flips
        for name in ("thresholds", "error_axes", "squares"):
            self.register_buffer(name, torch.from_numpy(np.array(getattr(code, name))))

    def forward(self, latents: Tensor) -> Tensor:
        """See `CodeModule.forward`."""
        centred = (latents - self.mean) / self.scale
        bits = torch.where(centred @ self.axes > self.thresholds, 1.0, -1.0)
        wanted = centred @ self.error_axes - bits @ self.squares
        places = torch.arange(bits.shape[1], device=latents.device)
        for _ in range(self.most_flips):
            changes = bits * wanted + self.squares.diagonal()
            is_least = places == changes.argmin(dim=1, keepdim=True)
            before = torch.where(is_least & (changes < 0), bits, 0.0)
            bits, wanted = bits - 2 * before, wanted + 2 * before @ self.squares
        return _packed(bits > 0)


class ElementwiseModule(CodeModule):
    """See `ElementwiseCode`."""

    length_axis: Tensor

    def __init__(self, code: ElementwiseCode) -> None:
        super().__init__(code)
        self.step, self.least, self.power = code.step, code.least, code.power
        self.register_buffer("length_axis", torch.from_numpy(np.array(code.length_axis)))

    def forward(self, latents: Tensor) -> Tensor:
        """See `CodeModule.forward`."""
        centred = (latents - self.mean) / self.scale
        rows = unrounded(centred, self.axes, self.power, self.least, self.length_axis)
        return self.to_bytes(rows / self.step).to(torch.uint8)

    @abstractmethod
    def to_bytes(self, numbers: Tensor) -> Tensor:
        """(N, p) numbers, not rounded -> (N, bytes_per_vector) bytes as whole numbers, 0 to 255."""


class Int8Module(ElementwiseModule):
    """See `Int8Code`."""

    def to_bytes(self, numbers: Tensor) -> Tensor:
        """See `ElementwiseModule.to_bytes`."""
        return _twos_complement(numbers, Int8Code.most)


class Int4Module(ElementwiseModule):
    """See `Int4Code`."""

    def to_bytes(self, numbers: Tensor) -> Tensor:
        """See `ElementwiseModule.to_bytes`."""
        halves = _twos_complement(numbers, Int4Code.most)
        return halves[:, ::2] + 16 * halves[:, 1::2]


class Float16Module(ElementwiseModule):
    """See `Float16Code`; by arithmetic, for ONNX cannot read a number's bits."""

    def to_bytes(self, numbers: Tensor) -> Tensor:
        """See `ElementwiseModule.to_bytes`."""
        sizes = numbers.abs().clamp(max=_LARGEST_HALF)
        exponents = sizes.clamp(min=2.0**_LEAST_EXPONENT).log2().floor() - _LEAST_EXPONENT
        # The value of the last digit; from a table, for powers are not exact everywhere.
        units = 2.0 ** (torch.arange(30, device=numbers.device) + (_LEAST_EXPONENT - _HALF_DIGITS))
        # A size of 2^(e + 1) is right with the exponent e, too: its digits carry over.
        halves = exponents * 2**_HALF_DIGITS + (sizes / units[exponents.long()]).round() + 2**15 * (numbers < 0)
        high = (halves / 256).floor()
        return torch.stack([halves - 256 * high, high], dim=2).flatten(1)


_MODULES: dict[type[Code], Callable[[Any], CodeModule]] = {
    Float16Code: Float16Module,
    Int8Code: Int8Module,
    Int4Code: Int4Module,
    TrainedFloat16Code: Float16Module,
    TrainedInt8Code: Int8Module,
    TrainedInt4Code: Int4Module,
    BinaryCode: BinaryModule,
    TrainedBinaryCode: TrainedBinaryModule,
}


def code_module(code: Code | None) -> CodeModule | None:
    """A code as a module; None where there is no code, or none of those that databases read."""
    module = _MODULES.get(type(code)) if code is not None else None
    return None if module is None else module(code)


def _packed(bits: Tensor) -> Tensor:
    """(N, 8 n) bool -> (N, n) uint8, as by numpy.packbits."""
    places = 2.0 ** torch.arange(7, -1, -1, device=bits.device)
    return (bits.reshape(-1, bits.shape[1] // 8, 8) * places).sum(dim=2).to(torch.uint8)


def _twos_complement(numbers: Tensor, most: int) -> Tensor:
    """Rounded and clipped to -most - 1 to most, the negative ones counted down from 2 * most + 2."""
    whole = numbers.round().clamp(-most - 1, most)
    return torch.where(whole < 0, whole + 2 * (most + 1), whole)
