"""The bundle's unit test in the form of MONAI's model zoo, where it lies in ``ci/unit_tests``.

Run from the folder above ``models``, or with the bundle's folder in ``BUNDLE_ROOT``: ``python -m unittest THIS_FILE``.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.bundle import ConfigWorkflow
from numpy.typing import NDArray

ROOT = os.environ.get("BUNDLE_ROOT", "models/brain_mri_transformer_segmentation")
SHAPE = (64, 72, 60)
SPACING = 3.0
TRAINING: dict[str, Any] = {
    "network_def#channels": [4, 8, 8],
    "network_def#hidden_size": 12,
    "network_def#mlp_dim": 16,
    "network_def#num_layers": 1,
    "network_def#num_heads": 2,
    "network_def#position_grid": [2, 2, 2],
    "pixdim": [6.0, 6.0, 6.0],
    "window_mm": [[96, 96, 96], [96, 96, 96]],
    "epoch_length": 2,
    "max_epochs": 1,
    "val_interval": 1,
    "validate#dataset#length": 1,
    "num_workers": 0,
    "warmup_steps": 1,
}
INFERENCE: dict[str, Any] = {"pixdim": [4.0, 4.0, 4.0], "flags": None, "overwrite": True}


def head() -> NDArray[np.int16]:
    """Return a label map (X, Y, Z) of a head: skin, skull, fluid, cortex and white matter as shells."""
    grid = np.stack(np.meshgrid(*(np.linspace(-1.1, 1.1, length) for length in SHAPE), indexing="ij"))
    radius, left = np.linalg.norm(grid, axis=0), grid[0] < 0
    codes = np.zeros(SHAPE, dtype=np.int16)
    for limit, code, other in ((1.0, 511, 511), (0.92, 515, 515), (0.85, 24, 24), (0.8, 3, 42), (0.65, 2, 41)):
        codes[radius < limit] = np.where(left, code, other)[radius < limit]
    return codes


class TestBrainMRITransformerSegmentation(unittest.TestCase):
    """The configs run, from the first step to files on the disk."""

    def setUp(self) -> None:
        """Write a label map to train on, and a scan with a label map to score."""
        sys.path.insert(0, os.path.abspath(ROOT))
        self.folder = Path(tempfile.mkdtemp())
        codes, affine = head(), np.diag([SPACING, SPACING, SPACING, 1.0])
        labels = np.where(codes > 500, 0, codes).astype(np.int16)
        image = np.random.default_rng(0).normal(codes % 50 * 10, 5).astype(np.float32).clip(min=0)
        files = {"maps/head.nii.gz": codes, "scans/a_T1.nii.gz": image, "scans/a_labels.nii.gz": labels}
        for name, data in files.items():
            path = self.folder / name
            path.parent.mkdir(exist_ok=True)
            nib.Nifti1Image(data, affine).to_filename(path)

    def tearDown(self) -> None:
        """Remove what was written."""
        shutil.rmtree(self.folder)
        sys.path.remove(os.path.abspath(ROOT))

    def finish(self, kind: str, configs: list[str], checked: bool = True, **overrides: Any) -> Path:
        """Run a workflow and return its output folder."""
        output = self.folder / kind
        workflow = ConfigWorkflow(
            workflow_type=kind,
            config_file=[os.path.join(ROOT, "configs", name) for name in configs],
            logging_file=os.path.join(ROOT, "configs", "logging.conf"),
            meta_file=os.path.join(ROOT, "configs", "metadata.json"),
            bundle_root=ROOT,
            output_dir=str(output),
            **overrides,
        )
        workflow.initialize()
        if checked:
            self.assertFalse(workflow.check_properties())
        workflow.run()
        workflow.finalize()
        return output

    def test_train_config(self) -> None:
        """An epoch on synthetic images leaves a model."""
        output = self.finish("train", ["train.json"], dataset_dir=str(self.folder / "maps"), **TRAINING)
        self.assertTrue((output / "model.pt").is_file())

    def test_infer_config(self) -> None:
        """A scan is segmented on its own grid."""
        scan = self.folder / "scans/a_T1.nii.gz"
        output = self.finish("infer", ["inference.json"], datalist=[str(scan)], **INFERENCE)
        labels: Any = nib.load(output / "a_T1/a_T1_seg.nii.gz")
        self.assertEqual(labels.shape, SHAPE)

    def test_eval_config(self) -> None:
        """A scan with labels is scored."""
        folder = str(self.folder / "scans")
        configs = ["inference.json", "evaluate.json"]
        output = self.finish("eval", configs, checked=False, dataset_dir=folder, **INFERENCE)
        self.assertTrue(list(output.glob("*.csv")))


if __name__ == "__main__":
    unittest.main()
