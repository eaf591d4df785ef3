"""What an exported model carries of its own: config, metadata and description, those of the folder that is exported."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bundle.errors import ExistsError
from bundle.io import write_labels
from bundle.labels import DEFAULT_TABLE, Label, read_labels
from bundle.model import LABEL_TABLE, MODEL_FILE, Model
from bundle.model.folder import read_content
from bundle.model.write import write_description

NOT_STATED = "not stated"


def deploy_config(
    base: Mapping[str, Any], model: Model, pixdim: Sequence[float], table: Sequence[Label]
) -> dict[str, Any]:
    """Return the inference in stock transforms for a model; for the brain it is ``configs/deploy.json`` as it stands.

    Args:
        base: content of ``configs/deploy.json``.
        model: what is exported.
        pixdim: voxel size in mm that it works at.
        table: the structures.

    Raises:
        InputError: when the model needs preprocessing of its own.
    """
    config: dict[str, Any] = copy.deepcopy(dict(base))
    config["label_codes"] = [label.code for label in table]
    config["pixdim"] = [float(edge) for edge in pixdim]
    steps = [_scaled(step, model.normalisation) for step in config["preprocessing"]["transforms"]]
    crop = model.foreground_crop
    config["preprocessing"]["transforms"] = [step for step in steps if crop or "CropForeground" not in step["_target_"]]
    for step in config["preprocessing"]["transforms"]:
        if crop and "CropForeground" in step["_target_"]:
            step["select_fn"] = f"$lambda image: image > {float(crop['threshold'])!r}"
            step["margin"] = int(crop["margin"])
    return config


def _scaled(step: dict[str, Any], normalisation: Mapping[str, Any]) -> dict[str, Any]:
    """Return the step of a config that scales intensities for a normalisation, any other step as it is."""
    if "ScaleIntensity" not in step["_target_"]:
        return step
    lower, upper = normalisation["lower"], normalisation["upper"]
    if normalisation["kind"] != "range":  # a head's percentiles without the look at its inside
        return {**step, "lower": lower, "upper": upper}
    kept: dict[str, Any] = {key: step[key] for key in ("keys", "b_min", "b_max", "clip") if key in step}
    return {"_target_": "ScaleIntensityRanged", "a_min": lower, "a_max": upper, **kept}


def metadata_of(base: Mapping[str, Any], model: Model, table: Sequence[Label]) -> dict[str, Any]:
    """Return the metadata of a model in MONAI's form; for the brain it is ``configs/metadata.json`` as it stands.

    Args:
        base: content of ``configs/metadata.json``.
        model: what is exported.
        table: the structures.
    """
    metadata: dict[str, Any] = copy.deepcopy(dict(base))
    if list(table) == read_labels(DEFAULT_TABLE):
        return metadata
    content = model.content if model.own else {}
    task, names = str(content.get("task", "segmentation")), {str(label.channel): label.name for label in table}
    dataset = content.get("dataset") or {}
    scores = content.get("scores") or {}
    best = scores.get(model.weights.name) if isinstance(scores, dict) else None
    output = metadata["network_data_format"]["outputs"]["pred"]
    output |= {"num_channels": len(table), "channel_def": names}
    codes = ", ".join(f"{label.code} {label.name}" for label in table)
    channels = metadata["network_data_format"]["inputs"]["image"]
    channels["channel_def"] = {"0": dataset.get("modality") or "image"}
    return metadata | {
        "changelog": {metadata["version"]: f"exported from the model {task}"},
        "name": task,
        "task": f"Segmentation: {task}",
        "description": content.get("description") or f"Finds {', '.join(label.name for label in table[1:])}.",
        "authors": NOT_STATED,
        "copyright": f"Licence of the weights: {content.get('licence') or NOT_STATED}",
        "data_source": content.get("data") or dataset.get("name") or NOT_STATED,
        "image_classes": f"single channel, {_words(model)}",
        "label_classes": f"codes of label files: {codes}",
        "pred_classes": f"{len(table)} channels of logits in the order of the label codes",
        "eval_metrics": best if isinstance(best, dict) else {},
        "references": [],
    }


def _words(model: Model) -> str:
    scaling = model.normalisation
    what = "values" if scaling["kind"] == "range" else "percentiles"
    return f"{what} {scaling['lower']:g} and {scaling['upper']:g} scaled to 0 and 1"


def sidecar_facts(model: Model, table: Sequence[Label]) -> dict[str, Any]:
    """Return what the record beside an exported file says of the model, apart from its network."""
    return {
        "task": model.task if model.own else None,
        "names": [label.name for label in table],
        "normalisation": model.normalisation,
        "foreground_crop": model.foreground_crop,
        **({"quality": model.quality} if model.quality else {}),
    }


def describe_beside(model: Model, output_dir: str | Path, pixdim: Sequence[float]) -> None:
    """Write ``model.json`` and ``labels.tsv`` beside exported files, unless they lie in the model's own folder.

    Raises:
        ExistsError: when the folder is that of another model.
    """
    folder = Path(output_dir)
    if not model.own or folder.resolve() == model.folder.resolve():
        return
    refuse_another(model, folder)
    write_labels(model.table, folder / LABEL_TABLE, overwrite=True)
    write_description({**model.content, "pixdim": [float(edge) for edge in pixdim], "weights": {}}, folder)


def refuse_another(model: Model, output_dir: str | Path) -> None:
    """Raise when a folder is that of another model than the one that is exported: who loads from it would be misled.

    Raises:
        ExistsError: naming its ``model.json``.
    """
    path = Path(output_dir) / MODEL_FILE
    if not path.is_file() or path.parent.resolve() == model.folder.resolve():
        return
    found = read_content(path)
    if not model.own or any(found[key] != model.content[key] for key in ("task", "labels", "network_def")):
        raise ExistsError(path, f"is of the model {found['task']}", "another output folder is wanted")
