"""The BIDS layout: subjects, sessions, T1-weighted images and discrete segmentations.

https://bids-specification.readthedocs.io, sections "Magnetic Resonance Imaging" and "Imaging data derivatives".
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bundle.datasets.case import Case
from bundle.errors import InputError
from bundle.io.names import volume_stem, volume_suffix

IMAGE_SUFFIX, LABEL_SUFFIX = "T1w", "dseg"
OWN_SPACES = {None, "T1w", "orig", "individual"}
"""Values of the space entity of a segmentation on the grid of its image."""
MATCHED_ENTITIES = ("acq", "ce", "rec", "run", "echo")
"""Entities that tell apart images of one session; a label file either lacks one or has the image's value."""


def is_bids(folder: Path) -> bool:
    """Say whether a folder holds BIDS subjects with anatomical images; results may be in folders ``sub-*`` too."""
    return any(path.is_dir() for pattern in ("sub-*/anat", "sub-*/ses-*/anat") for path in folder.glob(pattern))


def bids_cases(folder: Path, problems: list[InputError]) -> list[Case]:
    """Pair every ``*_T1w`` image with the ``*_dseg`` of its subject and session.

    A label file beside the image wins over one under ``derivatives``. Images with several equally good label files are
    added to ``problems``.
    """
    images = _volumes(folder, "sub-*/anat", IMAGE_SUFFIX) + _volumes(folder, "sub-*/ses-*/anat", IMAGE_SUFFIX)
    beside = _volumes(folder, "sub-*/anat", LABEL_SUFFIX) + _volumes(folder, "sub-*/ses-*/anat", LABEL_SUFFIX)
    derived = _volumes(folder, "derivatives/**", LABEL_SUFFIX)
    cases, used = [], set()
    for image in images:
        entities = _entities(image)
        candidates = next(filter(None, (_matching(entities, group) for group in (beside, derived))), [])
        if len(candidates) > 1:
            names = ", ".join(str(path.relative_to(folder)) for path in candidates)
            found = f"found {len(candidates)} label files ({names})"
            problems.append(InputError(image, found, "one is wanted", "pairs"))
        looked_for = image.with_name(volume_stem(image).removesuffix(IMAGE_SUFFIX) + f"{LABEL_SUFFIX}.nii.gz")
        label = candidates[0] if candidates else looked_for
        used |= set(candidates)
        cases.append(Case(volume_stem(image), image, label, f"sub-{entities.get('sub')}"))
    imaged = {_session(image) for image in images}
    for label in [*beside, *derived]:
        spare = label not in used and _entities(label).get("space") in OWN_SPACES
        if spare and (label in beside or _session(label) not in imaged):
            wanted = f"a *_{IMAGE_SUFFIX} image is wanted"
            problems.append(InputError(label, "found labels without an image", wanted, "pairs"))
    return cases


def bids_label_table(folder: Path) -> Path | None:
    """Return the table with the columns index and name at the root, else under ``derivatives``."""
    tables = [*folder.glob("*dseg.tsv"), *(folder / "derivatives").glob("**/*dseg.tsv")]
    tables = [path for path in tables if path.is_file() and not path.name.startswith("sub-")]
    return min(tables, key=lambda path: (len(path.parts), str(path)), default=None)


def _volumes(folder: Path, pattern: str, suffix: str) -> list[Path]:
    paths = folder.glob(f"{pattern}/*_{suffix}.nii*")
    return sorted(path for path in paths if volume_suffix(path) and volume_stem(path).endswith(f"_{suffix}"))


def _entities(path: Path) -> dict[str, str]:
    """Return ``{"sub": "01", "ses": "a", ...}`` of ``sub-01_ses-a_..._suffix.nii.gz``."""
    parts = (part.partition("-") for part in volume_stem(path).split("_")[:-1])
    return {key: value for key, _, value in parts}


def _session(path: Path) -> tuple[str | None, str | None]:
    entities = _entities(path)
    return entities.get("sub"), entities.get("ses")


def _matching(image: Mapping[str, str], labels: list[Path]) -> list[Path]:
    """Return the label files of the image's subject and session that fit its other entities best."""
    fits: dict[int, list[Path]] = {}
    for path in labels:
        entities = _entities(path)
        same = _session(path) == (image.get("sub"), image.get("ses"))
        shared = [key for key in MATCHED_ENTITIES if key in entities]
        if same and entities.get("space") in OWN_SPACES and all(image.get(key) == entities[key] for key in shared):
            fits.setdefault(len(shared), []).append(path)
    return fits[max(fits)] if fits else []
