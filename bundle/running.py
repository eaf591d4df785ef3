"""The config that is being evaluated, for what its expressions cannot say themselves.

MONAI hands the functions and classes that a config calls what their arguments resolve to, and no way to the config. Two
things need it: a model's description holds definitions as they stand in JSON, and ids that nothing reads are refused.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from monai.bundle import ConfigParser, scripts

from bundle.errors import ExportError, OptionError, show_errors_in_one_line

OF_MONAI = (
    *("workflow_type", "workflow", "meta_file", "logging_file", "init_id", "run_id", "final_id", "tracking"),
    *("properties_path", "args_file"),
)
"""Options of ``monai.bundle run`` that are no ids."""
ALWAYS = ("bundle_root", "imports", "initialize", "run", "finalize", "save_execute_config")
"""Ids that MONAI or a program reads, whether or not a config has them."""
ALIKE = 0.65
"""From so alike on, by difflib's ratio, an id may have been meant: a letter or two are wrong, not a word."""
REFERENCE = re.compile(r"[@%](\w+)")


def running_parser() -> ConfigParser | None:
    """Return MONAI's parser that is evaluating the caller, or ``None`` outside of one."""
    frame = inspect.currentframe()
    while frame is not None:
        found = frame.f_locals.get("self")
        if isinstance(found, ConfigParser):
            return found
        frame = frame.f_back
    return None


class CommandLine(NamedTuple):
    """What ``monai.bundle run`` was called with: its config files, and the ids that were given beside them."""

    files: list[str]
    overrides: dict[str, Any]


def command_line() -> CommandLine | None:
    """Return what the running ``monai.bundle run`` was called with, ``None`` where a workflow is run otherwise."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_code not in (scripts.run.__code__, scripts.create_workflow.__code__):
        frame = frame.f_back
    if frame is None:
        return None
    given = frame.f_locals
    named = given.get("_args") or given.get("override") or {}
    overrides = dict(scripts.update_kwargs(args=given["args_file"], config_file=given["config_file"], **named))
    files = overrides.pop("config_file")
    overrides = {name: value for name, value in overrides.items() if name not in OF_MONAI}
    return CommandLine([str(file) for file in ([files] if isinstance(files, (str, Path)) else files)], overrides)


def check_ids() -> None:
    """Refuse ids on the command line of ``monai.bundle run`` that its configs do not have.

    MONAI adds such an id to the config, where nothing reads it. Does nothing where a workflow is run otherwise.

    Raises:
        OptionError: naming the id, and the one that may have been meant.
    """
    given, parser = command_line(), running_parser()
    if given is not None and parser is not None:
        check_known(given.overrides, ConfigParser.load_config_files(given.files), parser.get())


def check_known(given: Iterable[str], stored: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Refuse ids that replace nothing.

    Args:
        given: ids, ``#`` or ``::`` between the parts of one.
        stored: content of the config files.
        config: the same with the ids in it, whose references count.

    Raises:
        OptionError: naming the id, and the one that may have been meant.
    """
    referenced = set(REFERENCE.findall(str(config)))
    for name in given:
        parts = name.lstrip("+~").replace("#", "::").split("::")
        place: Any = stored
        for depth, part in enumerate(parts):
            known = [key.lstrip("+~") for key in place] if isinstance(place, Mapping) else []
            inside = depth > 0 and ("_target_" in known or not isinstance(place, Mapping))
            if inside or (depth == 0 and part not in known and part in (*ALWAYS, *referenced)):
                break  # an argument of a class, an item of a list, or an id that the config asks for
            if part not in known:
                raise OptionError(name, "unknown id", _meant(parts[:depth], part, stored, known))
            place = next(place[key] for key in place if key.lstrip("+~") == part)


def _meant(above: Sequence[str], part: str, stored: Mapping[str, Any], known: Sequence[str]) -> str:
    """Return what may have been meant by an id that is not there, as a clause."""
    first, *rest = part.split(".")
    if not above and rest and first in stored:
        return f"did you mean {'#'.join((first, *rest))}?"
    alike = next((found for ids in (known, stored) if (found := difflib.get_close_matches(part, ids, 1, ALIKE))), [])
    return f"did you mean {'#'.join((*above, *alike))}?" if alike else "an id of the config is wanted"


def check_tensorrt() -> None:
    """Refuse ``monai.bundle trt_export`` where there is no GPU, in one line; does nothing where another command runs.

    Raises:
        ExportError: when PyTorch finds no GPU, on which TensorRT builds its engine.
    """
    frame = inspect.currentframe()
    while frame is not None and frame.f_code is not scripts.trt_export.__code__:
        frame = frame.f_back
    if frame is not None and not torch.cuda.is_available():
        show_errors_in_one_line()
        raise ExportError("trt_export", "found no GPU that PyTorch can use", "TensorRT builds its engine on one")


def raw_config(name: str) -> Any:
    """Return what stands under an id of the running config; references to other ids are followed, nothing is evaluated.

    ``None`` where there is no such id, or no config is running.
    """
    parser = running_parser()
    return None if parser is None else _followed(parser.get(name), parser, ())


def plain_arguments(name: str) -> dict[str, Any] | None:
    """Return the ``_target_`` and the arguments of a component of the running config, expressions evaluated.

    ``None`` where the id is no component, or one of its arguments is nothing that JSON holds.
    """
    parser = running_parser()
    content = None if parser is None else parser.get(name)
    if parser is None or not isinstance(content, dict) or not isinstance(content.get("_target_"), str):
        return None
    arguments = {
        key: parser.ref_resolver.get_resolved_content(f"{name}::{key}") if _is_evaluated(value) else value
        for key, value in content.items()
    }
    return arguments if _is_plain(arguments) else None


def _is_evaluated(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("$", "@"))


def _followed(value: Any, parser: ConfigParser, seen: tuple[str, ...]) -> Any:
    if isinstance(value, dict):
        return {key: _followed(part, parser, seen) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_followed(part, parser, seen) for part in value]
    if isinstance(value, str) and value.startswith("@") and value not in seen:
        return _followed(parser.get(value[1:], value), parser, (*seen, value))
    return value


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(part) for key, part in value.items())
    if isinstance(value, (list, tuple)):
        return all(_is_plain(part) for part in value)
    return value is None or isinstance(value, (bool, int, float, str))
