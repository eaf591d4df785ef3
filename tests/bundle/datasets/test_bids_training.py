"""A BIDS data set whose labels are derivatives: it trains, and what it held out is scored, by configs/own_data.json."""

from __future__ import annotations

import json

import torch

from bundle.datasets import read_dataset, split_cases
from networks import TransformerUNet
from tests.bundle.datasets.test_own_data_training import TRAINING, run_bundle
from tests.bundle.training.own_training import bundle_root
from tests.bundle.training.tiny_training import NETWORK
from tests.labelled import write_bids


def test_bids_set_trains_and_the_participants_that_were_held_out_are_scored(tmp_path):
    folder, run, scores = (tmp_path / name for name in ("set", "run", "scores"))
    write_bids(folder, derivatives=True)
    brain = tmp_path / "brain.pt"
    torch.save(TransformerUNet(**NETWORK).state_dict(), brain)
    given = {"dataset_dir": folder, "fold": 0, "num_folds": 3}
    with bundle_root():
        run_bundle("train", "own_data", output_dir=run, init_checkpoint=brain, **given, **TRAINING)
        places = {"checkpoint": run / "model.pt", "output_dir": scores, "datalist": "@fold_items"}
        run_bundle("inference", "evaluate", "own_data", **given, **places)
    parts = split_cases(read_dataset(folder).cases, 0, 3)
    assert {case.subject for case in parts.train}.isdisjoint(case.subject for case in parts.val)
    summary = json.loads((scores / "summary.json").read_text())
    assert sorted(summary["cases"]) == sorted(case.name.removesuffix("_T1w") for case in parts.val)
    assert list(summary["structures"]) == ["Inner", "Outer"]
    for case in parts.val:
        stem = case.image.name.removesuffix(".nii.gz")
        assert (scores / stem / f"{stem}_seg.nii.gz").is_file()
