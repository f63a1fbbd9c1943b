"""Powers of two near the size of values: what is divided by them is squared without leaving the range of its dtype.

Squares of 1e-25 are 0 in float32, those of 1e25 infinite. Dividing by a power of two rounds nothing, so that results on
usual values are the same to the last bit.
"""

import torch
from torch import Tensor

# The bits of the exponent, and the integers that have as many bits.
_EXPONENT = {torch.float32: (torch.int32, 0x7F80_0000), torch.float64: (torch.int64, 0x7FF0_0000_0000_0000)}


def power_of_two(sizes: Tensor) -> Tensor:
    """The largest power of two that is not above each size.

    Args:
        sizes: at least 0, of any shape, floating point.

    Returns:
        The powers, of the same shape and dtype, without gradient; for 0 and denormal numbers the smallest normal number
        of float32, or of float64.
    """
    wide = sizes.detach().to(torch.promote_types(sizes.dtype, torch.float32))
    integer, exponent = _EXPONENT[wide.dtype]
    wide = wide.clamp_min(torch.finfo(wide.dtype).tiny)
    return (wide.view(integer) & exponent).view(wide.dtype).to(sizes.dtype)
