"""What encode.py does: a vector file -> a file of short codes."""

from dploss.encoding.codes import DTYPES, Codes, read_codes
from dploss.encoding.job import EncodeJob

__all__ = ["DTYPES", "Codes", "EncodeJob", "read_codes"]
