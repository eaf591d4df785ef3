"""Which model a config or a program means: a folder, a zip of one, or the folder that a checkpoint lies in."""

from __future__ import annotations

import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from bundle.errors import BundleWarning, InputError, MissingError, OptionError
from bundle.model.ensemble import make_ensemble
from bundle.model.folder import FOLDER_WANTED, LABEL_TABLE, MODEL_FILE, WEIGHTS, Model, read_model
from bundle.model.quality import without_quality

BEST = "model_best.pt"
LARGEST_MEMBER = 4 << 30
"""Bytes of a member of a zip; the largest weights that a GPU of today trains have less."""
FILES = (MODEL_FILE, LABEL_TABLE, WEIGHTS, BEST)
EXPORTED = ("model.xml", "model.onnx", "model.ts")
STATE_DICTS = (".pt", ".pth")

_OPENED: dict[tuple[str, int, int], tempfile.TemporaryDirectory[str]] = {}
"""Folders with what was in a zip, for the life of the process, by the zip's path, size and time of change."""

ModelPath = str | Path
"""Folder of a model, or a zip of one."""


def find_model(
    model: ModelPath | Sequence[ModelPath],
    checkpoint: str | Path | Sequence[str | Path] | None = None,
    default: ModelPath | None = None,
) -> Model:
    """Return the model that a config's ids ``model`` and ``checkpoint`` stand for.

    Weights that lie in the folder of a model are of that model. Others are taken for weights of ``model``, and a
    warning says so where a state dict lies there without the folder that a training leaves.

    Args:
        model: folder of a model, or a zip of one; several are an ensemble.
        checkpoint: its weights, or others; ``model.pt`` in the folder by default. Of an ensemble, a list.
        default: the model that is meant when nobody said so.

    Raises:
        MissingError: when there is no such folder, zip or file in it.
        InputError: when a folder or zip is no model.
        OptionError: when ``model`` and ``checkpoint`` name two models, or those of an ensemble are not alike.
    """
    if not isinstance(model, (str, Path)):
        return _find_ensemble(model, checkpoint)
    if not isinstance(checkpoint, (str, Path, type(None))):
        message = f"found {len(checkpoint)} files for one model"
        raise OptionError("checkpoint", message, "one is wanted, or a list of models")
    folder = model_folder(model)
    if checkpoint is None or Path(checkpoint).parent.resolve() == folder.resolve():
        return read_model(folder, checkpoint)
    weights = Path(checkpoint)
    if (weights.parent / MODEL_FILE).is_file():
        if default is None or Path(model).resolve() != Path(default).resolve():
            message = f"found weights of the model {weights.parent}"
            raise OptionError("checkpoint", message, f"those of {model}, or this folder as model, are wanted")
        return read_model(weights.parent, weights)
    found = read_model(folder)
    if weights.is_file() and weights.suffix in STATE_DICTS:
        edges = " x ".join(f"{edge:g}" for edge in found.pixdim)
        message = f"{weights}: no {MODEL_FILE} beside it; taken for weights of {found.task}, at {edges} mm"
        warnings.warn(message, BundleWarning, stacklevel=2)
    return Model(found.folder, without_quality(found.content), weights, own=False)


def _find_ensemble(models: Sequence[ModelPath], checkpoints: str | Path | Sequence[str | Path] | None = None) -> Model:
    """Return several models as one."""
    if not models:
        raise OptionError("model", "found an empty list", FOLDER_WANTED)
    if isinstance(checkpoints, (str, Path)) or (checkpoints is not None and len(checkpoints) != len(models)):
        count = 1 if isinstance(checkpoints, (str, Path)) else len(checkpoints)
        raise OptionError("checkpoint", f"found {count} for {len(models)} models", "none is wanted, or one of each")
    if checkpoints is None:
        return make_ensemble([find_model(model) for model in models])
    return make_ensemble([find_model(*both) for both in zip(models, checkpoints, strict=True)])


def weights_file(model: ModelPath | Sequence[ModelPath]) -> str | list[str]:
    """Return the path of the weights of a model, for the id ``checkpoint``, or of an exported form where these are not.

    Several models give a list of paths.

    Raises:
        MissingError: when there is no such folder, zip or file in it; a training that is not over has no ``model.pt``.
        InputError: when the zip is no model's.
    """
    if not isinstance(model, (str, Path)):
        return [str(weights_file(member)) for member in model]
    folder = model_folder(model)
    found = next((folder / name for name in (WEIGHTS, *EXPORTED) if (folder / name).is_file()), None)
    if found is not None:
        return str(found)
    if (folder / MODEL_FILE).is_file():
        best = f" ({folder / BEST} as checkpoint takes the best so far)" if (folder / BEST).is_file() else ""
        raise MissingError(folder / WEIGHTS, "not found", f"the weights of a training that is over are wanted{best}")
    return str(folder / WEIGHTS)


def model_folder(model: str | Path) -> Path:
    """Return the folder of a model; what a zip holds of it is written to a folder that goes with the process.

    Raises:
        MissingError: when there is no such folder or zip.
        InputError: when the zip cannot be read, or holds no model or several.
    """
    path = Path(model)
    if path.is_dir():
        return path
    if not path.is_file():
        raise MissingError(path, "no such folder or zip", FOLDER_WANTED)
    state = path.stat()
    key = (str(path.resolve()), state.st_size, state.st_mtime_ns)
    if key not in _OPENED:
        folder = tempfile.TemporaryDirectory(prefix="model-")
        try:
            _extract(path, Path(folder.name))
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
            folder.cleanup()
            raise InputError(path, f"cannot be read as a zip ({error})", FOLDER_WANTED) from error
        _OPENED[key] = folder
    return Path(_OPENED[key].name)


def _extract(path: Path, folder: Path) -> None:
    """Write the files of the one model in a zip under their plain names: no name in the zip becomes a path."""
    with zipfile.ZipFile(path) as archive:
        places = [PurePosixPath(name).parent for name in archive.namelist() if PurePosixPath(name).name == MODEL_FILE]
        if len(places) != 1:
            raise InputError(path, f"found {len(places)} files {MODEL_FILE}", "a zip of one model's folder is wanted")
        for member in archive.infolist():
            place = PurePosixPath(member.filename)
            if member.is_dir() or place.parent != places[0] or place.name not in FILES:
                continue
            if member.file_size > LARGEST_MEMBER:
                found = f"found {place.name} of {member.file_size} bytes"
                raise InputError(path, found, f"at most {LARGEST_MEMBER} are wanted")
            with archive.open(member) as source, open(folder / place.name, "wb") as target:
                left = member.file_size  # what is stored beyond the size stated is an error of the zip's
                while block := source.read(min(left + 1, 1 << 20)):
                    left -= len(block)
                    target.write(block)
