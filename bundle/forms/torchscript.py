"""TorchScript archive in the layout of MONAI's ``ckpt_export``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from monai.data import save_net_with_metadata
from torch import nn

from bundle.errors import ExportError
from bundle.forms.form import Form, Source
from bundle.io.whole import whole_file

CONFIG_FILE = "inference.json"
"""Name that MONAI Deploy App SDK asks for, whatever the config was called."""


def write_torchscript(
    network: nn.Module, path: str | Path, metadata: Mapping[str, Any], config: Mapping[str, Any]
) -> None:
    """Script a network and write it with its metadata and a config that needs no code of the bundle.

    The archive holds ``extra/metadata.json`` and ``extra/inference.json`` below a folder named as the file. Consumers
    look there under the file's name, so the archive must not be renamed.

    Args:
        network: network in evaluation mode that ``torch.jit.script`` accepts.
        path: the archive, ``NAME.ts``; replaced when it exists, missing folders are made.
        metadata: content of ``configs/metadata.json``.
        config: content of ``configs/deploy.json``.

    Raises:
        ExportError: when ``path`` does not end in ``.ts``.
        ValueError: when the network is in training mode.
        TypeError: when ``metadata`` or ``config`` holds what JSON cannot.
    """
    path = Path(path)
    if path.suffix != ".ts" or not path.stem:
        raise ExportError(path, f"found the suffix {path.suffix!r}", "a file NAME.ts is wanted")
    if network.training:
        raise ValueError("network: found training mode; network.eval() is wanted.")
    extra_files = {CONFIG_FILE: json.dumps(config).encode()}
    scripted = torch.jit.script(network)
    with whole_file(path, overwrite=True) as unfinished:
        save_net_with_metadata(
            scripted, str(unfinished), include_config_vals=False, meta_values=metadata, more_extra_files=extra_files
        )


def _make(source: Source, path: Path) -> None:
    write_torchscript(source.network, path, source.metadata, source.config)


FORM = Form("torchscript", "model.ts", _make)
