"""soft_rank against the direct sum of B^3 sigmoids, forward and backward, on distances of the built-in vectors.

The direct form is the formula as written, differentiated by autograd: whole up to B = 512, in tensors of up to 512 MB.
Beyond that it runs on some of the rows and its time is scaled up. Errors are against a direct sum in float64: of the
ranks divided by B, of the gradient relative to its norm.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from timing import builtin_rows, milliseconds, parser, report
from torch import Tensor

from dploss.losses.distance_preserving import pairwise_distances, without_diagonal
from dploss.losses.soft_rank import soft_rank

# The largest batch that the direct form computes whole, and how many sigmoids it computes of larger ones.
WHOLE, SOME = 512, 2**25


def ours(d: Tensor, upstream: Tensor, tau: float) -> tuple[Tensor, Tensor]:
    """Ranks and gradient by soft_rank."""
    d = d.detach().requires_grad_()
    ranks = soft_rank(d, tau)
    ranks.backward(upstream)
    return ranks.detach(), d.grad


def direct(d: Tensor, upstream: Tensor, tau: float) -> tuple[Tensor, Tensor]:
    """Ranks and gradient by the direct sum."""
    d = d.detach().requires_grad_()
    ranks = torch.sigmoid((d[:, :, None] - d[:, None, :]) / tau).sum(-1) + 0.5
    ranks.backward(upstream)
    return ranks.detach(), d.grad


def memory_added(call: Callable[[], Any]) -> tuple[int | None, Any]:
    """Megabytes by which a call's peak exceeds the resident memory before it (Linux; else None), and its result."""
    if not Path("/proc/self/clear_refs").exists():
        return None, call()
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    before = _status("VmRSS")
    result = call()
    return (_status("VmHWM") - before) // 1024, result


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def main() -> None:
    """Print the table."""
    flags = parser(__doc__)
    flags.add_argument("--batch-size", type=int, nargs="+", default=[128, 512, 1024, 2048, 4096])
    flags.add_argument("--tau", type=float, nargs="+", default=[0.02, 0.1, 1.0, 5.0], help="in standard deviations")
    flags.add_argument("--repeat", type=int, default=3)
    args = flags.parse_args()
    torch.set_num_threads(args.threads)
    table = []
    for batch_size in args.batch_size:
        d = without_diagonal(pairwise_distances(builtin_rows(batch_size)))
        upstream = torch.randn(d.shape, generator=torch.Generator().manual_seed(0))
        some = slice(0, batch_size if batch_size <= WHOLE else max(1, SOME // batch_size**2))
        share = len(d[some]) / batch_size
        for spreads in args.tau:
            tau = spreads * d.std().item()
            calls = {"ours": partial(ours, d, upstream, tau), "direct": partial(direct, d[some], upstream[some], tau)}
            added, (ranks, grad) = memory_added(calls["ours"])
            times = milliseconds(calls, args.repeat)
            exact_ranks, exact_grad = direct(d[:8].double(), upstream[:8].double(), tau)
            table.append(
                {
                    "B": batch_size,
                    "tau": spreads,
                    "ours, ms": times["ours"],
                    "direct, ms": times["direct"] / share,
                    "ratio": times["direct"] / share / times["ours"],
                    "rank error / B": ((ranks[:8] - exact_ranks).abs().max() / batch_size).item(),
                    "gradient error": ((grad[:8] - exact_grad).norm() / exact_grad.norm()).item(),
                    "memory added, MB": added,
                }
            )
    report(table, args.json)


if __name__ == "__main__":
    main()
