"""soft_rank against the direct sum of B^3 sigmoids, forward and backward, on distances of the built-in vectors.

The direct form is differentiated by autograd, a few rows at a time: held whole it would need 32 GB at B = 2048. Where
all its rows would take long, it runs on some of them and its time is scaled up (~). Errors are against a direct sum in
float64, of the ranks over B and of the gradient relative to its norm.
"""

import resource

import torch
from timing import builtin_rows, milliseconds, parser, report
from torch import Tensor

from dploss.losses import pairwise_distances, without_diagonal
from dploss.soft_rank import soft_rank

# Sigmoids that the direct form holds at a time, which is fastest here, and that it does before it is scaled up.
CHUNK, ENOUGH = 2**20, 2**25


def ours(d: Tensor, upstream: Tensor, tau: float) -> tuple[Tensor, Tensor]:
    """Ranks and gradient by soft_rank."""
    d = d.detach().requires_grad_()
    ranks = soft_rank(d, tau)
    ranks.backward(upstream)
    return ranks.detach(), d.grad


def direct(d: Tensor, upstream: Tensor, tau: float) -> tuple[Tensor, Tensor]:
    """Ranks and gradient by the sum as it is written."""
    d = d.detach().requires_grad_()
    ranks = []
    for rows, g in zip(d.split(max(1, CHUNK // d.shape[1] ** 2)), upstream.split(max(1, CHUNK // d.shape[1] ** 2)), strict=True):
        part = torch.sigmoid((rows[:, :, None] - rows[:, None, :]) / tau).sum(-1) + 0.5
        part.backward(g)
        ranks.append(part.detach())
    return torch.cat(ranks), d.grad


def main() -> None:
    """Print the table."""
    flags = parser(__doc__)
    flags.add_argument("--batch-size", type=int, nargs="+", default=[128, 512, 2048, 4096])
    flags.add_argument("--tau", type=float, nargs="+", default=[0.02, 0.1, 0.5, 1.0, 5.0], help="in standard deviations")
    flags.add_argument("--repeat", type=int, default=5)
    args = flags.parse_args()
    torch.set_num_threads(args.threads)
    table = []
    for batch_size in args.batch_size:
        d = without_diagonal(pairwise_distances(builtin_rows(batch_size)))
        upstream = torch.randn(d.shape, generator=torch.Generator().manual_seed(0))
        some = slice(0, min(batch_size, max(1, ENOUGH // d.shape[1] ** 2)))
        share = len(d[some]) / batch_size
        for spreads in args.tau:
            tau = spreads * d.std().item()
            calls = {"ours": lambda: ours(d, upstream, tau), "direct": lambda: direct(d[some], upstream[some], tau)}
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            ranks, grad = ours(d, upstream, tau)
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
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
                    "peak memory grew, MB": grown // 1024,
                }
            )
    report(table, args.json)


if __name__ == "__main__":
    main()
