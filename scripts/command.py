"""The frame of every program: one line for an error, exit codes, warnings, no traceback unless ``--debug``."""

from __future__ import annotations

import argparse
import ast
import json
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bundle.errors import BundleWarning, error_line
from bundle.privacy import keep_matplotlib_out_of_home
from bundle.process import TERMINATED, Terminated, encode_whatever_is_printed, end_on_sigterm

ROOT = Path(__file__).resolve().parents[1]
"""Folder of the bundle."""
OWN_DATA = [str(ROOT / "configs" / name) for name in ("train.json", "own_data.json")]
"""What an overlay of one's own lies over."""
DONE, FAILED, INTERRUPTED = 0, 1, 130
"""Exit codes; argparse ends with 2 where the command line itself is wrong."""

Run = Callable[[argparse.Namespace], int]


def make_parser(name: str, doc: str | None) -> argparse.ArgumentParser:
    """Return the parser of ``python -m scripts.NAME`` with the options that all programs have.

    Args:
        name: the module's name.
        doc: the module's docstring, whose first paragraph becomes the description.
    """
    parser = argparse.ArgumentParser(prog=f"python -m scripts.{name}", description=(doc or "").split("\n\n")[0])
    parser.add_argument("--debug", action="store_true", help="show warnings, logs and the traceback of an error")
    return parser


def run_program(run: Run, options: argparse.Namespace, logs: bool = False) -> int:
    """Run a program and return its exit code.

    Warnings of this bundle are shown in a line each, once; those of libraries, and logs, only with ``--debug``. Ctrl-C
    and SIGTERM end it in one line, after what was being written is swept up.

    Args:
        run: the program; returns how many of its inputs failed.
        options: the command line, parsed by ``make_parser``'s parser.
        logs: show logs without ``--debug`` too: that of a training is what one watches.
    """
    disabled = logging.root.manager.disable
    encode_whatever_is_printed()
    keep_matplotlib_out_of_home()
    handler = end_on_sigterm()
    try:
        with warnings.catch_warnings():
            _show_warnings(options.debug)
            if not (options.debug or logs):
                logging.disable(logging.WARNING)
            return FAILED if run(options) else DONE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except Terminated:  # it has said so
        return TERMINATED
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:  # a program never ends in a traceback unasked
        if options.debug:
            traceback.print_exc()
        print_error(error)
        return FAILED
    finally:
        logging.disable(disabled)
        end_on_sigterm(handler)


def print_error(error: BaseException, subject: str | Path = "") -> None:
    """Print what a user can act on in one line.

    Args:
        error: an error, or MONAI's wrapper around it.
        subject: what it is about, put in front where the message lacks it.
    """
    reason = error_line(error, subject, hint=" (--debug shows where)")
    print(f"error: {reason}", file=sys.stderr)


def _show_warnings(debug: bool) -> None:
    """Show warnings of this bundle in one line each, equal ones once."""
    shown: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *_: object) -> None:
        line = f"warning: {' '.join(str(message).split())}"
        if line not in shown:
            shown.add(line)
            print(line, file=sys.stderr)

    if not debug:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", BundleWarning)
    warnings.showwarning = show  # type: ignore[assignment]


def read_value(text: str) -> Any:
    """Return the value of a config id that a command line gives: Python's or JSON's way to write it, else the text."""
    json_words = {"true": True, "false": False, "null": None}
    if text in json_words:
        return json_words[text]
    for read in (ast.literal_eval, json.loads if text.startswith(("{", "[")) else str):
        try:
            return read(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    return text
