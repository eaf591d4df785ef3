"""Everything that MONAI evaluates or calls in the configs stands in a list, so that nothing new slips in.

``python -m tests.bundle.test_config_strings`` writes the list anew, for somebody to read the difference.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIST = ROOT / "tests" / "bundle" / "config_strings.txt"
CONFIGS = sorted((ROOT / "configs").glob("*.json"))


def evaluated(config: Any) -> Iterator[str]:
    """Yield each expression, macro, and ``_target_`` of a config."""
    if isinstance(config, dict):
        for key, value in config.items():
            if key == "_target_":
                yield f"_target_ {value}"
            yield from evaluated(value)
    elif isinstance(config, list):
        for value in config:
            yield from evaluated(value)
    elif isinstance(config, str) and config.startswith(("$", "%")):
        yield config


def strings(paths: list[Path]) -> set[str]:
    return {string for path in paths for string in evaluated(json.loads(path.read_text(encoding="utf-8")))}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.name)
def test_what_a_config_evaluates_and_calls_is_listed(config):
    assert strings([config]) - set(LIST.read_text(encoding="utf-8").splitlines()) == set()


def test_list_holds_nothing_that_no_config_has():
    lines = LIST.read_text(encoding="utf-8").splitlines()
    assert lines == sorted(set(lines))
    assert set(lines) == strings(CONFIGS)
    assert len(lines) > 100


if __name__ == "__main__":
    LIST.write_text("\n".join(sorted(strings(CONFIGS))) + "\n", encoding="utf-8")
