"""Experiment tracking is optional: say what to install before a training starts."""

from __future__ import annotations

from importlib.util import find_spec

from bundle.errors import TrainingError


def check_tracking(save_execute_config: bool | str | None) -> None:
    """Refuse ``--tracking mlflow`` without MLflow.

    Args:
        save_execute_config: the config id of that name, which MONAI makes a path when tracking is asked for.

    Raises:
        TrainingError: when tracking is asked for and MLflow is not installed.
    """
    if isinstance(save_execute_config, str) and find_spec("mlflow") is None:
        wanted = "pip install mlflow -c constraints.txt installs it"
        raise TrainingError("--tracking mlflow", "found no mlflow", wanted)
