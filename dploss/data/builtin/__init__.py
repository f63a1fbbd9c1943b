"""The built-in vectors and the search queries for them: files of this folder, which its README.md describes."""

from pathlib import Path

VECTORS = Path(__file__).with_name("wordnet_mpnet_768.parquet")


def query_files(vectors: Path = VECTORS) -> tuple[Path, Path]:
    """Where the search queries for some vectors lie, beside them: NAME_queries.parquet and NAME_qrels.tsv.

    Returns:
        The queries, a parquet file of the same columns as the vectors'; and their qrels in BEIR's form, whose ids are
        the numbers of rows in the two parquet files.
    """
    return vectors.with_name(f"{vectors.stem}_queries.parquet"), vectors.with_name(f"{vectors.stem}_qrels.tsv")
