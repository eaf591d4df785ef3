"""What a config said when a result was made: its files, what was overridden, and one hash over all that counts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bundle.provenance import hashed_files
from bundle.running import command_line, running_parser

PLACES = (
    *("bundle_root", "dataset_dir", "datalist", "output_dir", "overwrite", "cache_dir", "checkpoint", "label_table"),
    *("default_model", "model", "flags", "reference_volumes"),
)
"""Ids that say where something lies or may be written, and change no result: the hash of what lies there counts."""


def config_content(
    files: Sequence[str],
    config: Mapping[str, Any],
    overrides: Mapping[str, Any],
    tables: Sequence[str | Path] = (),
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the names and SHA-256 of the config's files, the overrides, and the SHA-256 of the config they make.

    The last is taken over the config as JSON with sorted keys and without ``PLACES``: two configs that compute the same
    for the same reasons have the same, wherever they lie.

    Args:
        files: the config and its overlays.
        config: what they and the overrides amount to, unresolved.
        overrides: ids that were replaced.
        tables: further files that the config names by its ``PLACES``.
        settings: values of ids as they were used, see ``bundle.results.Maker``.
    """
    kept = {name: value for name, value in config.items() if name not in PLACES}
    canonical = json.dumps(kept, sort_keys=True, separators=(",", ":"), default=str)
    return {
        "files": hashed_files((*files, *tables)),
        "overrides": {name: _plain(value) for name, value in sorted(overrides.items()) if name not in PLACES},
        "settings": dict(settings or {}),
        "sha256": hashlib.sha256(canonical.encode()).hexdigest(),
    }


def running_config(
    tables: Sequence[str | Path | None] = (), settings: Mapping[str, Any] | None = None
) -> dict[str, Any] | None:
    """Return what :func:`config_content` does of the config that ``monai.bundle run`` runs.

    ``None`` where a workflow is run otherwise: whoever runs it knows its files.

    Args:
        tables: further files that the config names; ``None`` for one that it does without.
        settings: values of ids as they are used.
    """
    given, parser = command_line(), running_parser()
    if given is None or parser is None:
        return None
    named = [table for table in tables if table is not None]
    return config_content(given.files, parser.get(), given.overrides, named, settings)


def _plain(value: Any) -> Any:
    """Return a value as JSON has it, a path without its folder."""
    if isinstance(value, Path) or (isinstance(value, str) and not value.startswith(("$", "@"))):
        return Path(value).name
    return json.loads(json.dumps(value, default=str))
