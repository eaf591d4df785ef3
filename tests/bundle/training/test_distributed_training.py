"""configs/multi_gpu_train.json, run by torchrun with two processes on the CPU."""

from __future__ import annotations

import pytest

from tests.bundle.training.tiny_training import MULTI_GPU, column, command, train, weights

OPTIONS = {
    "learning_rate": 0.1,
    "optimizer#_target_": "torch.optim.SGD",  # Adam makes a rounding error as large as a step where gradients vanish
    "class_weight_power": 0,  # with weights, the mean cross entropy of a batch is not the mean over its halves
    "validate#dataset#length": 3,  # one process validates two samples, the other one
}


@pytest.mark.slow
def test_two_processes_equal_one_with_twice_the_batch(run_module, phantom_maps, tmp_path):
    two, one = tmp_path / "two", tmp_path / "one"
    launcher = ("torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m")
    done = run_module(*launcher, *command(phantom_maps, two, MULTI_GPU, **OPTIONS))
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("Weights saved") == 1
    assert done.stderr.count("epoch 2/2 100%") == 1

    train(phantom_maps, one, batch_size=2, **OPTIONS)
    expected, found = weights(one / "model.pt"), weights(two / "model.pt")
    assert expected.keys() == found.keys()
    assert max((expected[key] - found[key]).abs().max() for key in expected) < 1e-5
    assert column(one, "loss")[-1] < column(one, "loss")[0]
    assert column(two, "loss") == pytest.approx(column(one, "loss"), abs=1e-5)
    assert column(two, "val_mean_dice") == pytest.approx(column(one, "val_mean_dice"), abs=1e-5)
