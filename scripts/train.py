"""Train on a data set of one's own: ``python -m scripts.train my_task.json [--fold 0] [--ID VALUE ...]``.

``my_task.json`` (``python -m scripts.new_task`` writes one) lies over configs/train.json and configs/own_data.json;
further options replace config ids, as those of ``python -m monai.bundle run`` do. What it leaves is a model's folder.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from bundle.errors import MissingError, OptionError
from scripts.command import OWN_DATA, ROOT, make_parser, read_value, run_program


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser("train", __doc__)
    parser.add_argument("overlay", nargs="+", metavar="TASK", help="overlay of the task, and others that go over it")
    options, others = parser.parse_known_args(arguments)
    options.ids = read_ids(others)
    return options


def read_ids(arguments: list[str]) -> dict[str, Any]:
    """Return config ids from ``--ID VALUE`` or ``--ID=VALUE``; values are read by ``read_value``.

    Raises:
        OptionError: when something else is among them.
    """
    ids: dict[str, Any] = {}
    rest = [part for given in arguments for part in (given.split("=", 1) if given.startswith("--") else [given])]
    while rest:
        name = rest.pop(0)
        if not name.startswith("--") or not rest or len(name) < 3:
            raise OptionError(name, "found no id with a value", "--ID VALUE is wanted")
        ids[name[2:].replace("-", "_")] = read_value(rest.pop(0))
    return ids


def run(options: argparse.Namespace) -> int:
    """Train; return 0."""
    import monai.bundle

    for path in options.overlay:
        if not Path(path).is_file():
            raise MissingError(path, "no such file", "an overlay is wanted (python -m scripts.new_task writes one)")
    files = [*OWN_DATA, *options.overlay]
    log = str(ROOT / "configs" / "logging.conf")
    monai.bundle.run(config_file=files, logging_file=log, **{"bundle_root": str(ROOT), **options.ids})
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Return the exit code."""
    from bundle.errors import BundleError
    from scripts.command import FAILED, print_error

    try:
        options = parse_arguments(arguments)
    except BundleError as error:
        print_error(error)
        return FAILED
    return run_program(run, options, logs=True)


if __name__ == "__main__":
    sys.exit(main())
