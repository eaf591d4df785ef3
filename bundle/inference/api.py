"""Segmentation as a function: ``from bundle import segment``.

``tests/bundle/inference/test_api.py`` holds its labels equal to those that ``scripts.segment`` writes.
"""

from __future__ import annotations

import logging
import re
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any

import torch

from bundle.errors import BundleError, OptionError, root_cause
from bundle.inference.segmenter import INFERENCE, Segmenter
from bundle.model import MODEL_FILE, WEIGHTS
from bundle.model.find import model_folder
from bundle.results import Segmentation

ROOT = INFERENCE.parents[1]
MOST_SEGMENTERS = 2
"""Networks that stay loaded, the last used: such as two models that are compared."""
NO_OVERRIDES = ("output_dir", "overwrite", "dataset_dir", "datalist", "on_error", "bundle_root", "probabilities")
"""Ids that say what is read and written: here, the arguments do, and nothing."""
ARGUMENTS = (
    (re.compile(r"--frame N with N"), "frame=N with N"),
    (re.compile(r"--trust-(sform|qform)"), r'trust="\1"'),
    (re.compile(r"--(fill-nonfinite|assume-affine)"), lambda found: f"{found[1].replace('-', '_')}=True"),
    (re.compile(r"--frame"), "frame"),
)
"""Options of the programs, as messages of the reader name them, and the arguments that do the same here."""

MONAI_LOG = logging.getLogger("monai.bundle.workflows")
_LOADED: OrderedDict[str, Segmenter] = OrderedDict()
_ONE_AT_A_TIME = RLock()


def segment(
    image: Any,
    affine: Any = None,
    model: str | Path | Sequence[str | Path] | None = None,
    *,
    assume_affine: bool = False,
    fill_nonfinite: bool = False,
    frame: int | None = None,
    trust: str = "",
    **overrides: Any,
) -> Segmentation:
    """Segment a scan and return label map, record, flags and volumes; nothing is written.

    The labels are those that ``python -m scripts.segment`` writes of the same scan. The network stays loaded for the
    next call with the same model and overrides. Calls from several threads wait for one another.

    >>> import numpy as np
    >>> from bundle import segment
    >>> head = np.random.default_rng(0).random((24, 28, 24))
    >>> result = segment(head, affine=np.diag([8, 8, 8, 1]), pixdim=[8, 8, 8])
    >>> result.image.shape, result.image.get_data_dtype().name
    ((24, 28, 24), 'int16')
    >>> result.volumes["Left-Hippocampus"].code
    17
    >>> segment(head)
    Traceback (most recent call last):
    bundle.errors.OptionError: affine: found none; voxel to world in mm, shape (4, 4), is wanted with an array

    Args:
        image: array (X, Y, Z) of any real type, nibabel's image of a NIfTI or MGH file, or path of such a file; it
            stays as it is.
        affine: voxel to world of an array, mm, RAS+, shape (4, 4); images and files have their own.
        model: folder of a model, or a zip of one (unpacked to a temporary folder for the life of the process); the
            brain's by default. Several are averaged.
        assume_affine: accept an image or a file that does not say where it lies, which may swap left and right.
        fill_nonfinite: set NaN and Inf to 0 instead of refusing them.
        frame: which volume of a scan of four to seven axes, counted from 0.
        trust: ``"sform"`` or ``"qform"``: which is right where an image has both.
        overrides: ids of ``configs/inference.json``, such as ``device``, ``engine``, ``precision``, ``pixdim`` and
            ``mirror_averaging``.

    Returns:
        The label map as nibabel's image with the scan's shape and affine, and what is known of it.

    Raises:
        InputError: when the scan or the model cannot be used, for the reasons for which files are refused.
        OptionError: when an argument or override is none that could be.
        WeightsError: when the model's weights cannot be used.
    """
    with _ONE_AT_A_TIME, _in_one_line():
        return _segmenter(model, overrides).segment_array(
            image, affine, assume_affine=assume_affine, fill_nonfinite=fill_nonfinite, frame=frame, trust=trust
        )


def _segmenter(model: str | Path | Sequence[str | Path] | None, overrides: dict[str, Any]) -> Segmenter:
    """Return the segmenter of a model, loaded unless it is still there and its files are what they were."""
    for name in NO_OVERRIDES:
        if name in overrides:
            raise OptionError(name, "found an id that plays no part here", "nothing is written or looked for")
    if "device" in overrides:
        overrides["device"] = _device(overrides["device"])  # a string could be an expression of MONAI's
    several = [ROOT / "models"] if model is None else [model] if isinstance(model, (str, Path)) else list(model)
    folders = [model_folder(path).resolve() for path in several]
    files = [folder / name for folder in folders for name in (MODEL_FILE, WEIGHTS)]
    if isinstance(overrides.get("checkpoint"), (str, Path)):
        files.append(Path(overrides["checkpoint"]))
    states = [(state.st_size, state.st_mtime_ns) for state in (file.stat() for file in files if file.exists())]
    key = repr((folders, states, sorted(overrides.items())))
    if key not in _LOADED:
        names = [str(path) for path in several]
        named: dict[str, Any] = {} if model is None else {"model": names if names[1:] else names[0]}
        level = MONAI_LOG.level
        MONAI_LOG.setLevel(logging.ERROR)  # it warns that it writes no log
        try:
            _LOADED[key] = Segmenter(INFERENCE, bundle_root=str(ROOT), **named, **overrides)
        finally:
            MONAI_LOG.setLevel(level)
    _LOADED.move_to_end(key)
    while len(_LOADED) > MOST_SEGMENTERS:
        _LOADED.popitem(last=False)
    return _LOADED[key]


def _device(device: Any) -> torch.device:
    """Return a device that is there."""
    try:
        return torch.empty(0, device=device).device
    except (AssertionError, RuntimeError, TypeError) as error:
        found = f"found {device} ({str(error).splitlines()[0]})"
        raise OptionError("device", found, "one that PyTorch can use here is wanted, such as cpu") from error


@contextmanager
def _in_one_line() -> Iterator[None]:
    """Raise what a user can mend as it is, in place of MONAI's wrappers, with the words of this function."""
    try:
        yield
    except Exception as error:
        cause = root_cause(error, "image")
        if isinstance(cause, BundleError) and len(cause.args) == 4:
            for option, argument in ARGUMENTS:
                cause.wanted = option.sub(argument, cause.wanted)
            cause.args = (cause.args[0], cause.found, cause.wanted, cause.code)
        if cause is error:
            raise
        raise cause from None  # what is around it is MONAI's
