"""The number of threads changes no label: what docs/results.md says of it."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch

from bundle.inference.segmenter import Segmenter
from bundle.machine import available_cores
from tests.conftest import COARSE, ROOT

SHARE = 1e-5
"""Of the labelled voxels that may differ: none did; another processor's library may split its sums otherwise."""
needs_bfloat16 = pytest.mark.skipif(
    not torch.cpu._is_avx512_bf16_supported(), reason="this processor does not compute in bfloat16"
)


@pytest.mark.slow
@pytest.mark.skipif(available_cores() < 2, reason="one core can run one thread")
@pytest.mark.parametrize("precision", ["float32", pytest.param("bfloat16", marks=needs_bfloat16)])
@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_one_thread_and_several_find_the_same_labels(small_scan, tmp_path, monkeypatch, engine, precision):
    if engine == "openvino":
        pytest.importorskip("openvino")
    monkeypatch.chdir(ROOT)
    before, found = torch.get_num_threads(), []
    options = {"pixdim": COARSE, "device": "cpu", "engine": engine, "precision": precision}
    try:
        for threads in (1, 2, 2):
            torch.set_num_threads(threads)
            segmenter = Segmenter(output_dir=str(tmp_path / str(len(found))), **options)
            found.append(np.asarray(nib.load(segmenter.segment(small_scan).label_map).dataobj))
    finally:
        torch.set_num_threads(before)
    assert (found[1] == found[2]).all()
    assert (found[0] != found[1]).sum() <= SHARE * (found[0] > 0).sum()
