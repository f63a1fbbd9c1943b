"""Evaluate a folder of generated images: CLIP score, LPIPS, Inception Score, FID, KID, CMMD and more, and a composite.

What cannot be computed (no references, no captions, weights out of reach) is left out, and the reason reported. LPIPS,
PSNR and SSIM compare files of the same name in both folders; FID, KID, CMMD, MIND, precision, recall, density and
coverage compare the folders as sets. Behind a value is its 95 % interval. A * marks values of too few images.

Examples:
  python -m metrics samples/
  python -m metrics samples/ --references photos/ --prompts captions.csv
  python -m metrics samples/ --references photos/ --metrics fid psnr --device cuda --batch-size 128
  python -m metrics samples/ --references photos/ --lpips-weights alexnet.pth --inception-weights inception.pth
  python -m metrics samples/ --prompts captions.csv --clip-model ViT-L-14 --clip-pretrained openai
  python -m metrics samples/ --import my_metrics        my_metrics.py registers your own metrics
  python -m metrics samples/ --json > report.json
"""

import argparse
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from metrics.errors import InputError
from metrics.folders import ImageFolder
from metrics.inputs import read_inputs
from metrics.printed import json_text, table
from metrics.table import BUILT_IN

INTERRUPTED = 130


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Print the error and exit with code 2."""
        self.exit(2, f"{self.prog}: {message} ({self.prog} --help shows the flags)\n")


def parser() -> Parser:
    """The command's flags."""
    prog = "dploss metrics" if Path(sys.argv[0]).stem == "dploss" else "python -m metrics"
    # `python -OO` leaves no docstring.
    about, heading, examples = (__doc__ or "").replace("python -m metrics", prog).partition("\n\nExamples")
    flags = Parser(
        prog=prog,
        description=about,
        epilog=heading.strip() + examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    path = os.path.expanduser
    flags.add_argument("generated", type=path, metavar="GENERATED_DIR", help="the folder of generated images")
    flags.add_argument("--references", type=path, metavar="DIR", help="the folder of reference images")
    flags.add_argument(
        "--prompts",
        type=path,
        metavar="CSV",
        help="captions: columns image_path and text_en, or file_name and text; of the generated images, or of others "
        "with the same names",
    )
    flags.add_argument("--skip-bad-images", action="store_true", help="leave out images that cannot be read")
    flags.add_argument("--metrics", nargs="+", metavar="NAME", help=f"only these (default: all): {', '.join(BUILT_IN)}")
    flags.add_argument("--import", dest="module", metavar="MODULE", help="a Python module that registers more metrics")
    flags.add_argument(
        "--guard",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="leave metrics of too few images out of the composite score (default: --no-guard)",
    )
    flags.add_argument("--json", action="store_true", help="print the report as JSON")
    models = flags.add_argument_group("models")
    models.add_argument("--clip-model", metavar="NAME", default="ViT-B-32", help="(default: %(default)s)")
    models.add_argument(
        "--clip-pretrained",
        metavar="WEIGHTS",
        default="laion2b_s34b_b79k",
        help="an open_clip tag, a file, or local-dir:FOLDER (default: %(default)s)",
    )
    models.add_argument("--lpips-net", choices=("alex", "vgg", "squeeze"), default="alex", help="(default: alex)")
    models.add_argument(
        "--lpips-weights", type=path, metavar="FILE", help="the net's ImageNet weights (default: torch's cache)"
    )
    models.add_argument(
        "--inception-weights",
        type=path,
        metavar="FILE",
        help="for Inception Score, FID, KID, MIND, precision to coverage (default: torch's cache)",
    )
    models.add_argument(
        "--dinov2-weights", type=path, metavar="FILE", help="a DINOv2 of its authors or of timm, for fd_dinov2"
    )
    models.add_argument("--device", default="cpu", help="cpu, cuda, mps, ... (default: %(default)s)")
    models.add_argument("--batch-size", type=int, default=32, metavar="N", help="(default: %(default)s)")
    return flags


def measure(args: argparse.Namespace) -> int:
    """Evaluate the folder and print the report."""
    if args.module:
        _import(args.module)
    generated = ImageFolder(args.generated)
    references = None if args.references is None else ImageFolder(args.references)

    # Imported late: --help and errors in the input need not wait for torch.
    from metrics.evaluator import ImageEvaluator

    evaluator = ImageEvaluator(
        device=args.device,
        metrics=args.metrics,
        clip_model=args.clip_model,
        clip_pretrained=args.clip_pretrained,
        lpips_net=args.lpips_net,
        lpips_weights=args.lpips_weights,
        inception_weights=args.inception_weights,
        dinov2_weights=args.dinov2_weights,
        guard=args.guard,
        batch_size=args.batch_size,
        progress=True,
    )
    inputs = read_inputs(generated, references, args.prompts, args.skip_bad_images)
    compared_with = inputs.compared_with(args.metrics or ())
    with _no_warnings():
        report = evaluator.evaluate(inputs.generated, compared_with, inputs.prompts)
    report["notes"] = [*inputs.notes, *report["notes"]]
    text = json_text(report) if args.json else "\n".join(table(report))
    # Of a path that is not UTF-8, Python's text has lone surrogates; JSON has an escape for them, UTF-8 has nothing.
    print(text.encode(errors="backslashreplace").decode())
    return 0


def _import(module: str) -> None:
    sys.path.insert(0, os.getcwd())
    try:
        import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise InputError(f"--import {module}: no such module in this folder or in Python's path") from error
    finally:
        sys.path.remove(os.getcwd())


@contextmanager
def _no_warnings() -> Iterator[None]:
    """The report has the reasons for what is left out; as warnings on stderr they would hide a one-line error."""
    log = logging.getLogger("metrics")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        0; 2 for input that cannot be used, 1 for output that cannot be written, 130 for Ctrl-C; for these the reason
        is printed as one line on stderr.
    """
    flags = parser()
    args = flags.parse_args(argv)
    try:
        return measure(args)
    except InputError as error:
        print(f"{flags.prog}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader of the output, such as `| head`, has closed it; the interpreter would flush once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"{flags.prog}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{flags.prog}: interrupted", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
