"""Make embedding vectors short while their nearest neighbours stay the same.

Commands:
  dploss train       train an encoder, or fit a code of N bytes a vector
  dploss test        recall of an encoder on rows it has not seen
  dploss encode      encode a file of vectors, or decode one
  dploss share       write an encoder to a folder for others, or for the Hub
  dploss plot        a glance at a training
  dploss visualize   study a training, or compare several
  dploss metrics     evaluate a folder of generated images
                     (needs pip install 'dploss[images]')

dploss COMMAND --help shows a command's flags and examples.
"""

import sys
from difflib import get_close_matches
from importlib import import_module

import dploss
from dploss.cli.names import COMMANDS

_MODULES = {name: f"dploss.commands.{name}" for name in COMMANDS} | {"metrics": "metrics.__main__"}


def main() -> int:
    """Run the command that the first argument names; returns its exit code."""
    name, *argv = sys.argv[1:] or ["--help"]
    if name in _MODULES:
        return import_module(_MODULES[name]).main(argv)
    if name in ("-h", "--help"):
        print((__doc__ or f"dploss {' | '.join(_MODULES)}").strip())
        return 0
    if name == "--version":
        print(f"dploss {dploss.__version__}")
        return 0
    near = get_close_matches(name, _MODULES, 1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(_MODULES)}"
    print(f"dploss: no command {name!r}; {hint}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
