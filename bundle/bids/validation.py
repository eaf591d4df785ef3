"""BIDS's own validator (bids-validator-deno), where it is installed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

PROGRAM = "bids-validator-deno"


def find_validator() -> str | None:
    """Return the validator's path: beside this Python, or on the PATH; ``None`` where there is none."""
    return shutil.which(PROGRAM, path=str(Path(sys.executable).parent)) or shutil.which(PROGRAM)


def validation_errors(root: str | Path, validator: str) -> list[str]:
    """Return a line for each error that the validator finds; voxels and headers of images are left to who reads them.

    Raises:
        RuntimeError: when the validator does not run.
    """
    command = [validator, str(root), "--format", "json", "--ignoreNiftiHeaders", "--ignoreWarnings"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        issues = json.loads(done.stdout)["issues"]["issues"]
    except (ValueError, LookupError, TypeError) as error:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise RuntimeError(f"{PROGRAM} ended with {done.returncode}: {' '.join(last)}") from error
    errors = [issue for issue in issues if issue.get("severity") == "error"]
    return [" ".join(f"{issue.get('location', root)}: {issue['code']} {_more(issue)}".split()) for issue in errors]


def _more(issue: dict[str, object]) -> str:
    return " ".join(str(issue[key]) for key in ("subCode", "issueMessage") if issue.get(key))
