"""Probability maps, against linear interpolation of all probabilities at full size, and the files they become."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
import torch
from jsonschema import validate
from scipy.ndimage import map_coordinates

from bundle.errors import OptionError
from bundle.inference import StreamInferer, stream_labels
from bundle.inference.segmenter import Segmenter
from bundle.inference.slabs import Windows
from bundle.inference.soft import map_channels
from bundle.labels import read_labels
from bundle.results.probabilities import ProbabilityMaps
from scripts.segment import parse_arguments
from tests.bundle.inference.test_stream_strays import SCANS, SIZE, Playback, all_logits
from tests.conftest import MEDIUM, ROOT


def expected_maps(logits, channels, to_grid, shape) -> np.ndarray:
    probabilities = logits.double().softmax(0).numpy()[channels]
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij")).reshape(3, -1)
    position = to_grid[:3, :3] @ index + to_grid[:3, 3:]
    inside = ((position >= -0.5) & (position <= np.array(logits.shape[1:])[:, None] - 0.5)).all(0)
    maps = [map_coordinates(values, position, order=1, mode="nearest") for values in probabilities]
    maps = [np.where(inside, values, float(channel == 0)) for channel, values in zip(channels, maps, strict=True)]
    return np.stack([values.reshape(shape) for values in maps], axis=-1)


@pytest.mark.parametrize("name", SCANS)
@pytest.mark.parametrize("window", [SIZE, (12, 30, 16)], ids=["one window", "several"])
def test_maps_equal_probabilities_interpolated_at_full_size(name, window):
    logits, (to_grid, shape), channels = all_logits(3) / 20, SCANS[name], [5, 0, 2]
    maps = ProbabilityMaps.empty(channels, shape)
    image = torch.arange(float(np.prod(SIZE))).view(1, 1, *SIZE)
    windows = Windows(SIZE, window, (0.25,) * 3)
    labels, notes = stream_labels(image, Playback(logits), windows, to_grid, shape, [1, 2], maps=maps)
    expected = expected_maps(logits, channels, to_grid, shape)
    assert notes.maps is maps
    assert np.abs(maps.values / 255 - expected).max() <= 0.5 / 255 + 1e-4
    structures = [0, 2]  # background lies outside of the grid too, which its sum leaves out
    np.testing.assert_allclose(maps.sums[structures], expected[..., structures].sum((0, 1, 2)), rtol=1e-4)
    assert torch.equal(labels, stream_labels(image, Playback(logits), windows, to_grid, shape, [1, 2])[0])


def test_codes_choose_the_maps_in_the_order_given():
    table = read_labels()
    assert [table[channel].code for channel in map_channels([53, 17, 53], table)] == [53, 17]
    assert map_channels("all", table) == list(range(1, len(table)))
    assert map_channels(None, table) == []
    with pytest.raises(OptionError, match="has no structure with the code 99"):
        map_channels([99], table)
    with pytest.raises(OptionError, match="codes of the label table, or all, are wanted"):
        map_channels("some", table)
    with pytest.raises(OptionError, match="maps are made where a scan is streamed"):
        StreamInferer((8, 8, 8), probabilities="all", streaming=False)


def test_options_name_codes_or_all(capsys):
    given = ["scan.nii", "--output-dir", "out", "--probabilities"]
    assert parse_arguments([*given, "17", "53"]).probabilities == [17, 53]
    assert parse_arguments([*given, "all"]).probabilities == "all"
    with pytest.raises(SystemExit):
        parse_arguments([*given, "left"])
    assert "codes or all are wanted" in capsys.readouterr().err


def test_files_lie_on_the_scan_and_volumes_are_their_sums(small_scan, tmp_path):
    options = {"output_dir": str(tmp_path), "pixdim": MEDIUM, "precision": "float32", "overwrite": True}
    plain = Segmenter(**options).segment(small_scan)
    before = plain.label_map.read_bytes()
    paths = Segmenter(**options, probabilities=[17, 53]).segment(small_scan)
    assert paths.label_map.read_bytes() == before
    maps, sidecar = paths.map_files()
    image, scan = nib.load(maps), nib.load(small_scan)
    assert image.shape == (*scan.shape, 2)
    np.testing.assert_array_equal(image.affine, scan.affine)
    assert image.get_data_dtype() == np.uint8
    values = image.get_fdata()
    assert values.min() == 0
    assert 0 < values.max() <= 1.0001
    content = json.loads(sidecar.read_text())
    assert (content["Codes"], content["Names"]) == ([17, 53], ["Left-Hippocampus", "Right-Hippocampus"])
    record = json.loads(paths.record.read_text())
    validate(record, json.loads((ROOT / "configs" / "record.schema.json").read_text()))
    assert record["steps"]["probabilities"]["codes"] == [17, 53]
    assert {maps.name, sidecar.name} <= set(record["outputs"])
    header, *rows = (line.split("\t") for line in paths.volumes.read_text().splitlines())
    soft = {int(row[0]): row[-1] for row in rows}
    assert header[-1] == "soft_volume_mm3"
    voxel = abs(np.linalg.det(scan.affine[:3, :3]))
    for number, code in enumerate([17, 53]):
        assert float(soft[code]) == pytest.approx(values[..., number].sum() * voxel, rel=0.05)
    assert soft[2] == ""
    Segmenter(**options).segment(small_scan)
    assert not maps.exists()  # they belonged to the result that was replaced
    assert plain.label_map.read_bytes() == before
