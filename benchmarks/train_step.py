"""Time of a training step of train.py, relative to the matrix products that it contains.

The lower bound is the time of these products, with the same shapes and in the same run: the encoder's forward and
backward pass (the vectors need no gradient), the distances of x, and those of z with their gradient.
"""

import torch
from timing import milliseconds, parser, report

from dploss.config import TrainConfig
from dploss.losses.distance_preserving import LOSSES
from dploss.training.launch import new_experiment


def products(
    batch_size: int, input_dim: int, hidden_dim: int, latent_dim: int
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The pairs of matrices that a step multiplies."""
    b, d, h, m = batch_size, input_dim, hidden_dim, latent_dim
    encoder = [(b, d, m), (b, d, h), (b, h, m)]
    weights = [(n, b, k) for b, k, n in encoder]
    shapes = [*encoder, *weights, (b, m, h), (b, d, b), (b, m, b), (b, b, m)]
    return [(torch.randn(rows, inner), torch.randn(inner, columns)) for rows, inner, columns in shapes]


def main() -> None:
    """Print the table."""
    flags = parser(__doc__)
    flags.add_argument("--batch-size", type=int, nargs="+", default=[256, 512, 1024])
    flags.add_argument("--latent-dim", type=int, nargs="+", default=[128, 512])
    flags.add_argument("--repeat", type=int, default=15)
    args = flags.parse_args()
    torch.set_num_threads(args.threads)
    table = []
    for latent_dim in args.latent_dim:
        for batch_size in args.batch_size:
            for name in LOSSES:
                config = TrainConfig(loss_function=name, latent_dim=latent_dim, batch_size=batch_size, quiet=True)
                trainer = new_experiment(config).trainer
                rows = trainer.train_index[:batch_size]
                pairs = products(batch_size, 768, config.hidden_dims[0], latent_dim)
                calls = {
                    "step": lambda trainer=trainer, rows=rows: trainer.train_step(rows),
                    "products": lambda pairs=pairs: [a @ b for a, b in pairs],
                }
                times = milliseconds(calls, args.repeat)
                table.append(
                    {
                        "loss": name,
                        "768 ->": latent_dim,
                        "B": batch_size,
                        "step, ms": times["step"],
                        "its products, ms": times["products"],
                        "ratio": times["step"] / times["products"],
                    }
                )
    report(table, args.json)


if __name__ == "__main__":
    main()
