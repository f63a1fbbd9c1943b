"""The sizes of a Matryoshka encoder where none are named."""


def nested_dims(latent_dim: int) -> tuple[int, ...]:
    """The dimensions where --matryoshka names none: latent_dim and its halves down to 32, or to 2 if it is below 64."""
    least = 32 if latent_dim >= 64 else 2
    dims = [latent_dim]
    while dims[-1] // 2 >= least:
        dims.append(dims[-1] // 2)
    return tuple(reversed(dims))
