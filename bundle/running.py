"""The config that is being evaluated, for what its expressions cannot say themselves.

MONAI hands the functions and classes that a config calls what their arguments resolve to, and no way to the config. Two
things need it: a model's description holds definitions as they stand in JSON, and ids that nothing reads are refused.
"""

from __future__ import annotations

import inspect
from typing import Any

from monai.bundle import ConfigParser


def running_parser() -> ConfigParser | None:
    """Return MONAI's parser that is evaluating the caller, or ``None`` outside of one."""
    frame = inspect.currentframe()
    while frame is not None:
        found = frame.f_locals.get("self")
        if isinstance(found, ConfigParser):
            return found
        frame = frame.f_back
    return None


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
