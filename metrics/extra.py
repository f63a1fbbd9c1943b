"""The packages of pip's extra `images`, without which some metrics are left out."""

from collections.abc import Iterator
from contextlib import contextmanager

from metrics.errors import Unavailable

PACKAGES = ("lpips", "open_clip", "timm", "torch_fidelity", "torchmetrics", "torchvision")


@contextmanager
def images_extra() -> Iterator[None]:
    """Around the late import of such a package.

    Raises:
        Unavailable: it is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        # Any other missing module is a fault of an installation, or of the code.
        if (error.name or "").split(".")[0] not in PACKAGES:
            raise
        raise Unavailable("it needs pip install 'dploss[images]'") from error
