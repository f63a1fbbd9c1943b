"""Loops that numba compiles, kept on the disk so that one process alone has to."""

from collections.abc import Callable
from typing import Any, TypeVar

import numba

_Loop = TypeVar("_Loop", bound=Callable)


def kernel(**options: Any) -> Callable[[_Loop], _Loop]:
    """Decorate a function as `numba.njit(**options, cache=True)` does, on a read-only system, too.

    What is compiled is kept beside the module, or in the user's cache; where neither can be written, every process
    compiles it anew.
    """

    def compiled(loop: _Loop) -> _Loop:
        try:
            return numba.njit(**options, cache=True)(loop)
        except RuntimeError:
            # Numba found no folder for its cache.
            return numba.njit(**options)(loop)

    return compiled
