"""Paths as people give them: `~` stands for their home, and what is no path at all is refused with what to do."""

import os
import re
from pathlib import Path
from shlex import quote

from dploss.errors import InputError

_URL = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)", re.IGNORECASE | re.DOTALL)
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]*\w")
# Of a file: a version, as of e5-large-v1.5, has no letters.
_SUFFIX = re.compile(r"\.[A-Za-z]\w*$")
_REPOSITORY = re.compile(r"(?:datasets/)?([\w.-]+/[\w.-]+)/?(.*)", re.DOTALL)
_HUB_PAGE = re.compile(r"(?:www\.)?huggingface\.co/datasets/([\w.-]+/[\w.-]+)/?(?:tree/.*)?")
_COPIERS = {"s3": "aws s3 cp {url} .", "gs": "gcloud storage cp {url} ."}


def expanded(path: str | Path) -> Path:
    """The path with `~` or `~user` at its start expanded, where there is such a user."""
    return Path(os.path.expanduser(path))


def refuse_remote(name: str) -> None:
    """Refuse what is not on this machine: a URL, or the name of a dataset of the Hugging Face Hub.

    Args:
        name: what a person gave as the place of a file or folder to be read.

    Raises:
        InputError: it is empty, a URL, or a hub's name that no file or folder here has; the message says what to do.
    """
    if not name.strip():
        raise InputError(f"{name!r} is not the name of a file or folder")
    url = _URL.fullmatch(name)
    if url:
        raise InputError(f"{name}: a URL is not read; {_instead(name, url[1].lower(), url[2])}")
    owner = name.split("/")[0]
    if _HUB_NAME.fullmatch(name) and not (os.path.lexists(owner) or _SUFFIX.search(name)):
        raise InputError(
            f"{name}: no such file or folder; if it is a dataset of the Hugging Face Hub, download it first: "
            f"{_from_hub(name, '')}"
        )


def _instead(name: str, scheme: str, rest: str) -> str:
    """What to do instead of giving a URL."""
    if scheme == "file":
        return f"give the path: {rest}"
    page = _HUB_PAGE.fullmatch(rest) if scheme in ("http", "https") else None
    repository = _REPOSITORY.fullmatch(rest) if scheme == "hf" else page
    if repository:
        command = _from_hub(repository[1], "" if page else repository[2], bool(page) or rest.startswith("datasets/"))
    elif scheme in ("http", "https"):
        # A page about a file, on the hub: the file itself is beside it.
        command = f"curl -LO {quote(name.replace('/blob/', '/resolve/', 1) if 'huggingface.co/' in rest else name)}"
    elif scheme in _COPIERS:
        command = _COPIERS[scheme].format(url=quote(name))
    else:
        return "download it first and give the path"
    return f"download it first: {command}"


def _from_hub(repository: str, file: str, is_dataset: bool = True) -> str:
    one, kind = f" {quote(file)}" if file else "", " --repo-type dataset" if is_dataset else ""
    return f"huggingface-cli download {repository}{one}{kind} --local-dir {repository.split('/')[1]}"
