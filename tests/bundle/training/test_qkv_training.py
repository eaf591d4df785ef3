"""Fused and separate QKV projections train alike."""

from __future__ import annotations

import numpy as np

from tests.bundle.training.tiny_training import column, train


def test_fused_and_separate_qkv_have_the_same_loss_curve(phantom_maps, tmp_path):
    curves = {}
    for fused in (True, False):
        folder = tmp_path / str(fused)
        options = {"network_def#use_combined_linear": fused, "network_def#qkv_bias": True}
        train(phantom_maps, folder, epoch_length=20, max_epochs=1, **options)
        curves[fused] = column(folder, "loss")
    assert len(curves[True]) == 20
    assert curves[True][-1] < curves[True][0]
    np.testing.assert_allclose(curves[True], curves[False], atol=1e-3, rtol=0)
