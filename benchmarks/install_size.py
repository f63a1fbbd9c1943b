"""Size and use of dploss as pip installs it: the wheel is built, installed in new environments, and run in each.

An environment is bare: Python and pip, nothing of the checkout. It needs a package registry, and gigabytes of disk
for a moment. Sizes are of files on the disk, in MB (10^6 bytes); "torch" is torch with the CUDA packages it needs.

Examples:
  install_size.py                         lean, and with the extra images
  install_size.py --extras '' images faiss,onnx
"""

import os
import subprocess
import sys
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from importlib.metadata import Distribution, distributions
from pathlib import Path

from timing import report

from dploss.cli.main import Parser, run

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = (
    ("train", "--limit", "1000", "--epochs", "1", "--latent-dim", "64"),
    ("train", "--limit", "1000", "--bytes", "32", "--epochs", "1"),
    ("test",),
    ("encode", "builtin", "codes.npy"),
    ("encode", "--decode", "codes.npy", "latents.npy"),
    ("plot",),
    ("visualize", "--compare"),
)
# What torch alone brings in.
_CUDA = ("cuda", "nvidia", "triton")


def parser() -> Parser:
    """The script's flags."""
    flags = Parser("install_size.py", __doc__)
    flags.add_argument(
        "--extras", nargs="+", default=["", "images"], help="extras of each environment (default: '' images)"
    )
    flags.add_argument("--json", type=Path, metavar="PATH", help="also write the table there as JSON")
    return flags


def size_of(package: Distribution) -> int:
    """Bytes of a package's files."""
    places = (package.locate_file(file) for file in package.files or ())
    return sum(os.path.getsize(place) for place in places if os.path.isfile(place))


def installed(wheel: Path, extras: str, folder: Path) -> Path:
    """A new environment with the wheel in it; its folder."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    what = f"dploss[{extras}] @ {wheel.as_uri()}" if extras else str(wheel)
    subprocess.run([folder / "bin" / "pip", "install", "-q", what], check=True, stdout=sys.stderr)
    return folder


def use(folder: Path, work: Path) -> None:
    """Run every command of an environment in an empty folder.

    Raises:
        CalledProcessError: one of them failed.
    """
    work.mkdir()
    for command in COMMANDS:
        print(f"dploss {' '.join(command)}", file=sys.stderr)
        subprocess.run([folder / "bin" / "dploss", *command], cwd=work, check=True, stdout=subprocess.DEVNULL)


def measure(args: Namespace) -> int:
    """Print the table."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", home], cwd=ROOT, check=True)
        (wheel,) = home.glob("*.whl")
        for number, extras in enumerate(args.extras):
            folder = installed(wheel, extras, home / f"environment{number}")
            use(folder, home / f"work{number}")
            (site,) = folder.glob("lib/python*/site-packages")
            sizes = {one.metadata["Name"]: size_of(one) for one in distributions(path=[str(site)])}
            total = sum(sizes.values())
            torch = sum(size for package, size in sizes.items() if package == "torch" or package.startswith(_CUDA))
            of_all = {"all": total, "torch": torch, "all else": total - torch, "dploss": sizes["dploss"]}
            megabytes = {f"MB, {part}": round(size / 1e6) for part, size in of_all.items()}
            rows.append({"extras": extras or "none", "packages": len(sizes), **megabytes})
    report(rows, args.json)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    return run(measure, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
