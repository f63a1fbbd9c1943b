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
import json
import logging
import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from metrics.errors import InputError
from metrics.folders import ImageFolder, read_captions
from metrics.registry import BUILT_IN, direction
from metrics.table import JACKKNIFE, error_key

if TYPE_CHECKING:
    from metrics.references import References

INTERRUPTED = 130
# Standard errors to both sides: 95 % of a normal distribution.
INTERVAL = 1.96
PAIRED = ("lpips", "psnr", "ssim")


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
    flags.add_argument("generated", metavar="GENERATED_DIR", help="the folder of generated images")
    flags.add_argument("--references", metavar="DIR", help="the folder of reference images")
    flags.add_argument(
        "--prompts", metavar="CSV", help="captions: columns image_path (relative to the file) and text_en"
    )
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
    models.add_argument("--lpips-weights", metavar="FILE", help="the net's ImageNet weights (default: torch's cache)")
    models.add_argument(
        "--inception-weights",
        metavar="FILE",
        help="for Inception Score, FID, KID, MIND, precision to coverage (default: torch's cache)",
    )
    models.add_argument("--dinov2-weights", metavar="FILE", help="a DINOv2 of its authors or of timm, for fd_dinov2")
    models.add_argument("--device", default="cpu", help="cpu, cuda, mps, ... (default: %(default)s)")
    models.add_argument("--batch-size", type=int, default=32, metavar="N", help="(default: %(default)s)")
    return flags


def measure(args: argparse.Namespace) -> int:
    """Evaluate the folder and print the report."""
    if args.module:
        _import(args.module)

    generated = ImageFolder(args.generated)
    references = None if args.references is None else ImageFolder(args.references)
    prompts = None if args.prompts is None else read_captions(args.prompts, generated)

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
    paired = None if references is None else pair(generated, references, args.metrics or ())
    with _no_warnings():
        report = evaluator.evaluate(generated, paired, prompts)
    del report[JACKKNIFE]
    print(json_text(report) if args.json else "\n".join(table(report)))
    return 0


def pair(generated: ImageFolder, references: ImageFolder, chosen: Sequence[str]) -> "References":
    """The references as a set, and paired with the generated images by name.

    Raises:
        InputError: an image has no reference, and a metric that compares pairs was chosen by name.
    """
    from metrics.references import References

    known = set(references.names)
    for name in generated.names:
        if name not in known:
            reason = f"{references.folder / name}: no such reference"
            for metric in chosen:
                if metric in PAIRED:
                    raise InputError(f"{reason}, and {metric} compares each image with the reference of its name")
            return References(references, None, reason)
    return References(references, ImageFolder(references.folder, generated.names))


def table(report: dict[str, Any]) -> list[str]:
    """The report as aligned lines: values, what is left out, notes, weight files."""
    errors = {error_key(name): name for name in report if error_key(name) in report}
    scores = [name for name in report if isinstance(report[name], float) and name not in errors]
    width = max(len(name) for name in [*scores, *report["left_out"], "num_references"])
    intervals = {name: f"± {INTERVAL * report[key]:.4f}" for key, name in errors.items()}
    interval_width = max(map(len, intervals.values()), default=0)
    lines = []
    for name in scores:
        better = {True: "higher is better", False: "lower is better", None: ""}[direction(name)]
        interval = f" {intervals.get(name, ''):<{interval_width}}" if intervals else ""
        mark = " *" if name in report["below_floor"] else ""
        lines.append(f"{name:<{width}}  {report[name]:>12.4f}{interval}  {better}{mark}".rstrip())
    lines += [f"{name:<{width}}  {report[name]:>12}" for name in ("num_images", "num_references")]
    lines += [f"{name:<{width}}  {'-':>12}  left out: {reason}" for name, reason in report["left_out"].items()]
    lines += [f"note: {note}" for note in report["notes"]]
    users: dict[str, list[str]] = {}
    for name, file in report["weights"].items():
        users.setdefault(f"{file['source']} ({file['sha256'][:12]})", []).append(name)
    return lines + [f"weights of {', '.join(names)}: {file}" for file, names in users.items()]


def json_text(report: dict[str, Any]) -> str:
    """The report as strict JSON: a value that is not finite is null."""
    plain = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in report.items()
    }
    text = json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False)
    # Of a path that is not UTF-8, Python's text has lone surrogates; JSON has an escape for them, UTF-8 has nothing.
    return text.encode(errors="backslashreplace").decode()


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
