"""TorchScript archive in the layout of MONAI's ``ckpt_export``."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from monai.data import save_net_with_metadata
from torch import nn

CONFIG_FILE = "inference.json"
"""Name that MONAI Deploy App SDK asks for, whatever the config was called."""


def write_torchscript(
    network: nn.Module, path: str | Path, metadata: Mapping[str, Any], config: Mapping[str, Any]
) -> None:
    """Script a network and write it with its metadata and a config that needs no code of the bundle.

    The archive holds ``extra/metadata.json`` and ``extra/inference.json`` below a folder named as the file. Consumers
    look there under the file's name, so the archive must not be renamed; it is written in a temporary folder beside
    ``path``, under its final name, and moved into place when it is complete.

    Args:
        network: network in evaluation mode that ``torch.jit.script`` accepts.
        path: the archive, ``NAME.ts``; replaced when it exists, missing folders are made.
        metadata: content of ``configs/metadata.json``.
        config: content of ``configs/deploy.json``.

    Raises:
        ValueError: when ``path`` does not end in ``.ts`` or the network is in training mode.
        TypeError: when ``metadata`` or ``config`` holds what JSON cannot.
    """
    path = Path(path)
    if path.suffix != ".ts" or not path.stem:
        raise ValueError(f"{path}: found the suffix {path.suffix!r}; a file NAME.ts is wanted.")
    if network.training:
        raise ValueError("network: found training mode; network.eval() is wanted.")
    extra_files = {CONFIG_FILE: json.dumps(config).encode()}
    scripted = torch.jit.script(network)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".unfinished-") as folder:
        complete = Path(folder, path.name)
        save_net_with_metadata(
            scripted, str(complete), include_config_vals=False, meta_values=metadata, more_extra_files=extra_files
        )
        os.replace(complete, path)
