"""configs/quality.json, run by MONAI: a head learns the Dice of a tiny trunk's results, and goes into its weights."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from bundle.errors import TrainingError
from bundle.io import load_weights
from bundle.model import build_network, read_model
from bundle.training import KnownShareLoss, MeanDeviation, RankCorrelation
from tests.bundle.training.tiny_training import NETWORK, column, equal, train, weights
from tests.conftest import ROOT
from tests.judging import GROUPS, write_brain_folder
from tests.phantom import write_phantoms

BRAIN, QUALITY = (str(ROOT / "configs" / name) for name in ("brain_train.json", "quality.json"))
HEAD = "scan_head."


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Label maps, a trunk without outputs for the scan, and the folder of a training on them."""
    root = tmp_path_factory.mktemp("quality")
    write_phantoms(root / "maps", 3)
    write_brain_folder(root / "trunk", judging=False)
    run(root, root / "out")
    return root


def run(root, output_dir, **others):
    given = {
        **{"trunk": str(root / "trunk"), "held_out": 1, "threads": 0, "warps": None, "init_checkpoint": None},
        **dict.fromkeys((f"network_def#{key}" for key in NETWORK), ...),
        **{"samples_drawn": 6, "held_out_drawn": 3, "tokens_per_step": 32, "batch_size": 3, "max_epochs": 4},
    }
    return train(root / "maps", output_dir, BRAIN, QUALITY, **{**given, **others})


def test_the_head_is_trained_and_the_trunk_stays(made):
    trunk, joined = weights(made / "trunk" / "model.pt"), weights(made / "out" / "model.pt")
    assert {name for name in joined if not name.startswith(HEAD)} == trunk.keys()
    assert all(torch.equal(joined[name], value) for name, value in trunk.items())
    losses = column(made / "out", "loss")
    assert len(losses) == 8
    assert sum(losses[-2:]) < sum(losses[:2])
    assert len(column(made / "out", "val_rank_correlation")) == 2


def test_what_it_leaves_is_a_model_that_names_its_groups(made):
    model, trunk = read_model(made / "out"), read_model(made / "trunk")
    assert model.quality == GROUPS
    assert (model.pixdim, model.table, model.task) == (trunk.pixdim, trunk.table, trunk.task)
    network = load_weights(build_network(model), model.weights)
    outputs = network.forward_with_outputs(torch.rand(1, 1, 32, 32, 32))[1]
    assert outputs.shape == (1, len(GROUPS))
    quality = model.content["quality"]
    assert quality["trunk"] == trunk.content["weights"]["model.pt"]["sha256"]
    assert quality["steps"] == 8
    assert set(quality["scores"]["model.pt"]) == {"val_rank_correlation", "val_deviation"}
    assert model.content["training"] == trunk.content["training"]


@pytest.mark.slow
def test_a_training_goes_on_to_the_same_weights_with_what_was_drawn(made, tmp_path):
    shutil.copytree(made / "out", tmp_path / "out")
    files = sorted((tmp_path / "out").glob("tokens_*/*.pt"))
    assert len(files) == 9
    kept = {path: path.stat().st_mtime_ns for path in files[1:]}
    drawn = weights(files[0])
    for path in (files[0], *(tmp_path / "out").glob("checkpoint_4.pt"), tmp_path / "out" / "model.pt"):
        path.unlink()  # as after a kill
    run(made, tmp_path / "out")
    assert equal(weights(tmp_path / "out" / "model.pt"), weights(made / "out" / "model.pt"))
    torch.testing.assert_close(weights(files[0]), drawn, atol=0, rtol=0, equal_nan=True)
    assert {path: path.stat().st_mtime_ns for path in files[1:]} == kept


def test_tokens_of_another_trunk_are_drawn_anew_and_its_training_is_another(made, tmp_path):
    write_brain_folder(tmp_path / "trunk", seed=1, judging=False)
    shutil.copytree(made / "out", tmp_path / "out")
    with pytest.raises(RuntimeError) as caught:  # MONAI's, around what is raised
        run(made, tmp_path / "out", trunk=str(tmp_path / "trunk"))
    cause = caught.value
    while not isinstance(cause, TrainingError):
        cause = cause.__cause__
    assert "found a training with trunk" in str(cause)
    run(made, tmp_path / "out", trunk=str(tmp_path / "trunk"), restart=True, max_epochs=1)
    assert len(list((tmp_path / "out").glob("tokens_*"))) == 4


def test_the_dice_is_that_of_the_labels_drawn(made):
    files = sorted((made / "out").glob("tokens_*/*.pt"))
    dice = torch.stack([weights(path)["dice"] for path in files])
    assert dice.shape == (9, len(GROUPS))
    known = dice[torch.isfinite(dice)]
    assert ((known >= 0) & (known <= 1)).all()
    assert dice[:, 7].isfinite().any(), "the phantom has a stem"
    assert all(weights(path)["tokens"].dtype == torch.float16 for path in files)


def test_a_trunk_is_trained_further_from_weights_with_a_head(made, tmp_path):
    start = str(made / "out" / "model.pt")
    train(made / "maps", tmp_path / "out", init_checkpoint=start, max_epochs=1, val_interval=1)
    assert not any(name.startswith(HEAD) for name in weights(tmp_path / "out" / "model.pt"))
    assert "quality" not in json.loads((tmp_path / "out" / "model.json").read_text())


def test_loss_is_cross_entropy_where_the_share_is_known():
    found = torch.rand(5, 4, dtype=torch.float64, requires_grad=True)
    wanted = torch.rand(5, 4, dtype=torch.float64)
    hidden = wanted.clone()
    hidden[1, 2] = hidden[4, 0] = torch.nan
    known = torch.isfinite(hidden)
    expected = -(wanted * found.log() + (1 - wanted) * (1 - found).log())[known].mean()
    loss = KnownShareLoss()(found, hidden)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert torch.isfinite(found.grad).all()
    assert (found.grad[~known] == 0).all()
    assert KnownShareLoss()(found, torch.full_like(hidden, torch.nan)) == 0


def test_metrics_are_over_all_that_is_known():
    rank, deviation = RankCorrelation(), MeanDeviation()
    for metric in (rank, deviation):
        metric.reset()
        metric.update(([torch.tensor([0.1, 0.5])], [torch.tensor([0.2, torch.nan])]))
        metric.update((torch.tensor([[0.3, 0.9]]), torch.tensor([[0.6, 0.4]])))
    assert rank.compute() == pytest.approx(0.5)  # ranks 1, 2, 3 and 1, 3, 2
    assert deviation.compute() == pytest.approx((0.1 + 0.3 + 0.5) / 3)
