"""DataConfig: the settings of what a training is given: rows or images, and queries."""

from dataclasses import dataclass
from typing import Literal

from dploss.config.option import option
from dploss.errors import SettingError

DATA, QUERIES = "data", "queries"


@dataclass(frozen=True)
class DataConfig:
    """Where rows, images and queries are, and what is near; the help of train.py says what each of them is."""

    data: str = option(
        "builtin",
        DATA,
        "vectors: .parquet, .arrow (file, quoted glob, folder of shards or dataset), .npy, .npz, .jsonl, .csv, "
        ".pt, .safetensors, .hdf5, .fbin, ... (docs/DATA.md); 'builtin': 10,000 WordNet entries of 768 dimensions",
        metavar="PATH",
        on_resume=True,
    )
    column: str | None = option(
        None, DATA, "column, key or array of the vectors (default: the only one, or a usual name)", metavar="NAME"
    )
    limit: int | None = option(None, DATA, "use the first N rows only", at_least=3)
    skip_bad_rows: bool = option(
        False,
        DATA,
        "leave out rows that cannot be used (null, empty, of other dimensions, not finite, of zeros under cosine); "
        "limit counts them too",
    )
    metric: Literal["euclidean", "cosine", "ip"] = option(
        "euclidean",
        DATA,
        "what is near, and is preserved: the least distance; cosine normalises every row; ip: the largest inner "
        "product, of rows as they are",
    )
    images: str | None = option(
        None,
        DATA,
        "train a convolutional autoencoder on a folder of images instead (captions: captions.csv, metadata.csv, a "
        ".txt beside each image, or the subfolder's name); 'builtin': crops of two photographs",
        metavar="FOLDER",
        on_resume=True,
    )
    image_size: int = option(
        64,
        DATA,
        "height and width in pixels, a multiple of 8; images are cropped to a square",
        at_least=16,
        at_most=1024,
        multiple_of=8,
    )
    skip_bad_images: bool = option(
        False, DATA, "with --images: leave out images that cannot be read; those of limit are counted before"
    )
    val_fraction: float = option(
        0.1, DATA, "fraction of the rows held out for recall, never trained on; 0: none", at_least=0, below=1
    )

    queries: str | None = option(
        None,
        QUERIES,
        "vectors that search, where rows are not what is searched with: a file as for data, or 'builtin', sentences "
        "for the built-in rows; recall is that of held-out queries",
        metavar="PATH",
        on_resume=True,
    )
    query_column: str | None = option(None, QUERIES, "with --queries: the column of the vectors", metavar="NAME")
    query_side: Literal["auto", "own", "shared"] = option(
        "auto",
        QUERIES,
        "with --queries: how queries are encoded: by a side of their own, which is trained with them, or as rows are; "
        "auto: by their own where training queries find notably more by it",
    )
    database: str | None = option(
        None,
        QUERIES,
        "with --queries: the rows that held-out queries search among (default: the held-out rows)",
        metavar="PATH",
        on_resume=True,
    )

    @property
    def is_asymmetric(self) -> bool:
        """Whether queries are encoded by a side of their own."""
        return self.metric == "ip" or (self.queries is not None and self.query_side == "own")

    @property
    def row_metric(self) -> str:
        """How rows are compared as they are opened, under cosine normalised: "euclidean" or "ip"."""
        return "ip" if self.metric == "ip" else "euclidean"

    def check_data(self) -> None:
        """Refuse settings that do not go together.

        Raises:
            SettingError: there are such.
        """
        if self.images is not None and self.metric != "euclidean":
            raise SettingError("{metric} must be euclidean with {images}: the norm of an image's pixels is kept")
        if self.images is not None and self.skip_bad_rows:
            raise SettingError("{skip_bad_rows} is for vectors: leave it out with {images}")
        if self.images is None and self.skip_bad_images:
            raise SettingError("{skip_bad_images} is for images: leave it out without {images}")
        given = {"query_column": self.query_column, "query_side": self.query_side != "auto", "database": self.database}
        for name, value in given.items():
            if self.queries is None and value:
                raise SettingError(f"{{{name}}} goes with {{queries}}")
        if self.metric == "ip" and self.query_side == "shared":
            raise SettingError("{query_side} shared: under {metric} ip rows and queries have a side each")
        if self.images is not None and self.queries is not None:
            raise SettingError("{queries} search among vectors: leave them out with {images}")
