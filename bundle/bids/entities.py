"""The anatomical images of a BIDS data set, by ancpBIDS, and the entities in their names.

ancpBIDS was chosen over pybids and bids2table: it needs no other package (pybids brings SQLAlchemy and a dozen more,
bids2table pyarrow), knows BIDS by its schema, and lists 24 images of a data set in milliseconds.
``tests/bundle/bids/test_entities.py`` holds it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle.choices import BIDS_SUFFIXES, DEFAULT_BIDS_SUFFIX
from bundle.errors import CohortError, InputError, MissingError
from bundle.io.names import NIFTI_SUFFIXES, volume_stem

DESCRIPTION = "dataset_description.json"
LONG_NAMES = {
    "subject": "sub", "session": "ses", "acquisition": "acq", "ceagent": "ce", "reconstruction": "rec",
    "direction": "dir", "description": "desc",
}  # fmt: skip
"""What filter files (pybids) call entities whose key in names is a shorter one."""
ANY, ABSENT = ("*", "Query.ANY"), (None, "Query.NONE")
NO_ENTITIES = ("datatype", "suffix", "extension")


@dataclass(frozen=True)
class BidsScan:
    """An image of a data set.

    Attributes:
        path: the file.
        entities: value by key in the order of the name, ``{"sub": "01", "ses": "a", "run": "1"}``.
    """

    path: Path
    entities: Mapping[str, str]

    @property
    def subject(self) -> str:
        """Label of the participant."""
        return self.entities["sub"]

    @property
    def session(self) -> str | None:
        """Label of the session, if the data set has any."""
        return self.entities.get("ses")

    @property
    def suffix(self) -> str:
        """What kind of image it is: ``T1w``."""
        return volume_stem(self.path).rpartition("_")[2]

    @property
    def stem(self) -> str:
        """Name without suffix and extension: ``sub-01_ses-a_run-1``."""
        return volume_stem(self.path).rpartition("_")[0]


def is_bids_root(folder: str | Path) -> bool:
    """Tell whether a folder is a BIDS data set: it is described, and has folders of subjects."""
    folder = Path(folder)
    return (folder / DESCRIPTION).is_file() and any(path.is_dir() for path in folder.glob("sub-*"))


def entities_of(path: str | Path) -> dict[str, str]:
    """Return the entities in a name, in its order."""
    parts = (part.partition("-") for part in volume_stem(path).split("_")[:-1])
    return {key: value for key, _, value in parts}


def anat_scans(
    root: str | Path,
    participants: Sequence[str] | None = None,
    sessions: Sequence[str] | None = None,
    wanted: Mapping[str, Mapping[str, Any]] | None = None,
    suffixes: Sequence[str] = (DEFAULT_BIDS_SUFFIX,),
) -> list[BidsScan]:
    """Return the raw images of a data set that have one of the suffixes, in the order of their paths.

    Derivatives are left alone.

    Args:
        root: the data set.
        participants: labels, with or without ``sub-``; all where ``None``.
        sessions: labels, with or without ``ses-``.
        wanted: filters by entity of each suffix in lower case, see :func:`read_filter`.
        suffixes: kinds of images.

    Raises:
        MissingError: when the folder is none, or has no such participant.
        CohortError: when ancpBIDS is not installed.
    """
    root = Path(root)
    if not is_bids_root(root):
        raise MissingError(root, f"found no {DESCRIPTION} with folders sub-*", "a BIDS data set is wanted")
    chosen = _labels(participants, "sub-")
    for label in sorted(chosen or ()):
        if not (root / f"sub-{label}").is_dir():
            raise MissingError(root, f"found no participant {label}", "the label of a folder sub-* is wanted")
    chosen_sessions = _labels(sessions, "ses-")
    found = []
    for path in sorted(_raw_images(root, suffixes)):
        scan = BidsScan(path, entities_of(path))
        if (
            (chosen is None or scan.subject in chosen)
            and (chosen_sessions is None or scan.session in chosen_sessions)
            and _passes(scan.entities, (wanted or {}).get(scan.suffix.lower(), {}))
        ):
            found.append(scan)
    return found


def read_filter(path: str | Path) -> dict[str, dict[str, Any]]:
    """Return what a filter file wants of images, by their suffix in lower case and the keys of names.

    Its form is that of fMRIPrep and its kin: ``{"t1w": {"acquisition": "mprage", "run": [1, 2], "ceagent": null}}``;
    ``null`` wants an entity to be absent, ``"*"`` to be there. What it has of other images (``bold``) is left alone.

    Raises:
        MissingError: when there is none.
        InputError: when it is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingError(path, "no such file", "a filter file is wanted")
    known = [suffix.lower() for suffix in BIDS_SUFFIXES]
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        filters = {str(key).lower(): dict(value) for key, value in content.items() if str(key).lower() in known}
    except (ValueError, AttributeError, TypeError) as error:
        raise InputError(
            path, f"cannot be read ({error})", 'an object such as {"t1w": {"acquisition": "x"}}'
        ) from error
    return {kind: _by_keys_of_names(wanted) for kind, wanted in filters.items()}


def _by_keys_of_names(wanted: Mapping[str, Any]) -> dict[str, Any]:
    return {LONG_NAMES.get(str(key), str(key)): value for key, value in wanted.items() if key not in NO_ENTITIES}


def no_images(root: str | Path, suffixes: Sequence[str]) -> InputError:
    """Return the error of a data set that has no image that is asked for."""
    kinds = " or ".join(f"_{suffix}" for suffix in suffixes)
    wanted = "at least one is wanted; --suffix takes other kinds of images"
    return InputError(root, f"found no {kinds} image that is asked for", wanted, "missing")


def _raw_images(root: Path, suffixes: Sequence[str]) -> list[Path]:
    try:
        from ancpbids.pybids_compat import BIDSLayout
    except ImportError as error:
        wanted = "'pip install -r requirements-cohort.txt -c constraints.txt' brings it"
        raise CohortError("ancpbids", "is not installed", wanted) from error
    layout = BIDSLayout(str(root))
    endings = list(NIFTI_SUFFIXES)
    found: list[Any] = layout.get(return_type="files", scope="raw", suffix=list(suffixes), extension=endings)
    # Of a subject's own folder: whatever else lies in a data set is not raw data.
    images = [path for path in map(Path, found) if path.relative_to(root).parts[0].startswith("sub-")]
    return [path for path in images if path.parent.name == "anat" and "sub" in entities_of(path)]


def _labels(given: Iterable[str] | None, prefix: str) -> set[str] | None:
    return None if given is None else {label.removeprefix(prefix) for label in given}


def _passes(entities: Mapping[str, str], wanted: Mapping[str, Any]) -> bool:
    return all(_fits(entities.get(key), value) for key, value in wanted.items())


def _fits(found: str | None, wanted: Any) -> bool:
    if isinstance(wanted, list):
        return any(_fits(found, one) for one in wanted)
    if wanted in ABSENT:
        return found is None
    if found is None:
        return False
    if wanted in ANY:
        return True
    # Indices count as numbers: run-01 is 1.
    return int(found) == int(wanted) if found.isdecimal() and str(wanted).isdecimal() else found == str(wanted)
