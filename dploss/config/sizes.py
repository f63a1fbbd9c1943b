"""The sizes of an encoder that follow from the data or from other settings, where they are not given."""

# From which the default of latent_dim is taken as it is.
_DIMENSIONS_OF_DEFAULT = 768
# Measured (docs/QUALITY.md): with as many rows to train on, a wider branch preserves more.
_MANY_ROWS, _WIDE = 50_000, (2048,)
# Bits of the code for each latent, of which it keeps those with most variance: half of a number's, for its length is
# that of more dimensions. The least number of latents is measured (docs/BYTES.md).
_BITS_OF_LATENT = {"trellis": 1, "scalar": 1, "pq": 1, "binary": 1, "int4": 2, "int8": 4, "float16": 8}
_LEAST_LATENTS = 256
# Codes of which training makes others, after the first epoch (docs/BYTES.md).
TRAINED_IN_AN_EPOCH = ("trellis", "scalar", "float16", "int8", "int4", "binary")


def default_latent_dim(usual: int, input_dim: int, n_bytes: int | None, code: str) -> int:
    """Latent dimensions of vectors.

    Args:
        usual: of 768 dimensions and more; of fewer half of them.
        input_dim: D.
        n_bytes: of a stored vector; None if none are stored.
        code: how, one that was chosen; then the latents are what it has bits for, at least 256, up to D.
    """
    if n_bytes is not None:
        return min(max(8 * n_bytes // _BITS_OF_LATENT[code], _LEAST_LATENTS), input_dim)
    return usual if input_dim >= _DIMENSIONS_OF_DEFAULT else max(1, input_dim // 2)


def default_hidden_dims(usual: tuple[int, ...], n_rows: int) -> tuple[int, ...]:
    """Widths of the hidden layers for `n_rows` rows to train on; for 50,000 and more they are wider."""
    return _WIDE if n_rows >= _MANY_ROWS else tuple(usual)


def nested_dims(latent_dim: int) -> tuple[int, ...]:
    """The dimensions where --matryoshka names none: latent_dim and its halves down to 32, or to 2 if it is below 64."""
    least = 32 if latent_dim >= 64 else 2
    dims = [latent_dim]
    while dims[-1] // 2 >= least:
        dims.append(dims[-1] // 2)
    return tuple(reversed(dims))
