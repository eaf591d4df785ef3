"""``--tracking mlflow``: with MLflow a record, without it one line that says so."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from tests.bundle.training.tiny_training import command

WITH_MLFLOW = find_spec("mlflow") is not None


@pytest.mark.skipif(WITH_MLFLOW, reason="mlflow is installed: nothing to complain about")
def test_missing_mlflow_is_said_in_one_line(host, phantom_maps, tmp_path):
    done = host.run(*command(phantom_maps, tmp_path / "run", tracking="mlflow"))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "error: --tracking mlflow: found no mlflow; pip install mlflow -c constraints.txt installs it"
    )
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not WITH_MLFLOW, reason="mlflow is not installed; pip install mlflow -c constraints.txt")
def test_mlflow_records_losses_and_metric(run_module, phantom_maps, tmp_path):
    import mlflow

    done = run_module(*command(phantom_maps, tmp_path, tracking="mlflow"))
    assert done.returncode == 0, done.stderr[-3000:]
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlruns.db")
    (experiment,) = [item for item in client.search_experiments() if item.name == "monai_experiment"]
    (run,) = client.search_runs(experiment.experiment_id)
    assert run.info.status == "FINISHED"
    assert len(client.get_metric_history(run.info.run_id, "train_loss")) == 6
    assert [item.step for item in client.get_metric_history(run.info.run_id, "val_mean_dice")] == [2]
