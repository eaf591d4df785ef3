"""``from bundle import segment`` gives what ``scripts.segment`` writes, from any folder, and writes nothing.

``tests/test_doctests.py`` runs the example of the README elsewhere, and looks for what it leaves.
"""

from __future__ import annotations

import json
import shutil
import warnings

import nibabel as nib
import numpy as np
import pytest
from jsonschema import Draft202012Validator

from bundle import Segmentation, segment
from bundle.errors import BundleError, BundleWarning, FlagWarning
from bundle.inference import api
from tests.conftest import ROOT
from tests.model_folder import write_folder

TINY = {"pixdim": [12.0] * 3, "precision": "float32"}
SCHEMA = Draft202012Validator(json.loads((ROOT / "configs/record.schema.json").read_text()))


@pytest.fixture(autouse=True)
def _nothing_loaded():
    api._LOADED.clear()
    yield
    api._LOADED.clear()


@pytest.fixture(scope="module")
def written(run_main, tiny_scan, tiny_config, tmp_path_factory):
    """What the program leaves of the tiny scan."""
    folder = tmp_path_factory.mktemp("written")
    done = run_main("scripts.segment", tiny_scan, "--output-dir", folder, "--config", tiny_config)
    assert done.returncode == 0, done.stderr
    return folder / "tiny"


def quietly(*arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BundleWarning)
        return segment(*arguments, **options)


@pytest.mark.parametrize("form", ["path", "text", "image", "array"])
def test_labels_are_those_of_the_program(form, written, tiny_scan):
    image = nib.load(tiny_scan)
    given = {
        "path": (tiny_scan, None),
        "text": (str(tiny_scan), None),
        "image": (image, None),
        "array": (image.get_fdata(), image.affine),
    }[form]
    result = quietly(*given, **TINY)
    expected = nib.load(written / "tiny_seg.nii.gz")
    assert isinstance(result, Segmentation)
    assert np.unique(np.asarray(expected.dataobj)).size > 5
    np.testing.assert_array_equal(np.asarray(result.image.dataobj), np.asarray(expected.dataobj))
    np.testing.assert_array_equal(result.image.affine, expected.affine)
    assert result.image.get_data_dtype() == np.int16


def test_record_flags_and_volumes_are_those_of_the_program(written, tiny_scan):
    expected = json.loads((written / "tiny_record.json").read_text())
    image = nib.load(tiny_scan)
    for given, in_file in (((tiny_scan,), True), ((image,), False), ((image.get_fdata(), image.affine), False)):
        result = quietly(*given, **TINY)
        record = json.loads(json.dumps(result.record))
        SCHEMA.validate(record)
        assert record["outputs"] == {}
        assert (record["input"]["sha256"] == expected["input"]["sha256"]) == in_file
        assert record["input"]["name"] == ("tiny.nii.gz" if in_file else "image")
        assert all(stage["seconds"] is not None for stage in record["run"]["stages"].values())
        for name in set(expected) - {"input", "outputs", "run", "config"}:
            assert record[name] == expected[name], name
        assert record["config"]["settings"] == expected["config"]["settings"]
        assert [flag.code for flag in result.flags] == [flag["code"] for flag in expected["flags"]]
        volumes = {name: round(row.volume_mm3, 3) for name, row in result.volumes.items()}
        assert volumes == {name: entry["volume_mm3"] for name, entry in expected["structures"].items()}


def test_a_suspicious_result_is_warned_of_in_a_line(tiny_scan):
    with pytest.warns(FlagWarning, match="look twice") as caught:
        result = segment(nib.load(tiny_scan), **TINY)
    assert result.flags
    lines = [str(entry.message) for entry in caught if entry.category is FlagWarning]
    assert len(lines) == 1
    assert lines[0].startswith("image: ")


def test_warnings_of_the_reader_come_through_and_into_the_record(tiny_scan):
    image = nib.load(tiny_scan)
    image = nib.Nifti1Image(np.asarray(image.dataobj), image.affine, image.header)
    image.header["pixdim"][1] *= 1.005
    with pytest.warns(BundleWarning, match="found pixdim"):
        result = segment(image, **TINY)
    assert len(result.record["input"]["warnings"]) == 1


def test_a_model_is_loaded_once_and_anew_once_it_has_changed(tiny_scan, tmp_path):
    folder = write_folder(tmp_path / "made", pixdim=[6.0] * 3)
    first = quietly(tiny_scan, model=folder, precision="float32")
    (loaded,) = api._LOADED.values()
    again = quietly(tiny_scan, model=str(folder), precision="float32")
    assert list(api._LOADED.values()) == [loaded]
    np.testing.assert_array_equal(np.asarray(first.image.dataobj), np.asarray(again.image.dataobj))
    write_folder(tmp_path / "made", seed=1, pixdim=[6.0] * 3)
    changed = quietly(tiny_scan, model=folder, precision="float32")
    assert changed.record["weights"] != first.record["weights"]
    quietly(tiny_scan, model=folder, precision="float32", mirror_averaging=True)
    assert len(api._LOADED) == api.MOST_SEGMENTERS


def test_a_zip_of_a_model_is_the_model(tiny_scan, tmp_path):
    folder = write_folder(tmp_path / "made", pixdim=[6.0] * 3)
    archive = shutil.make_archive(str(tmp_path / "archive"), "zip", folder)
    results = [quietly(tiny_scan, model=model, precision="float32") for model in (folder, archive)]
    assert results[0].record["weights"] == results[1].record["weights"]
    assert list(results[0].volumes) == [label.name for label in api._LOADED.popitem()[1]._saving[0].table[1:]]
    np.testing.assert_array_equal(*(np.asarray(result.image.dataobj) for result in results))


BAD = {
    "NaN": ({"image": np.full((9, 9, 9), np.nan), "affine": np.eye(4)}, "image: .*; finite .* fill_nonfinite=True"),
    "frames": ({"image": np.ones((9, 9, 9, 3)), "affine": np.eye(4)}, r"image: .* or frame=N with N from 0 to 2"),
    "forms": ({"image": nib.Nifti1Image(np.ones((9, 9, 9)), None)}, "image: .* or assume_affine=True"),
    "no affine": ({"image": np.ones((9, 9, 9))}, "affine: found none"),
    "no file": ({"image": "not_here.nii"}, "not_here.nii: no such file"),
    "no model": ({"image": np.ones((9, 9, 9)), "affine": np.eye(4), "model": "not_here"}, "not_here: no such folder"),
    "unknown id": ({"image": np.ones((9, 9, 9)), "affine": np.eye(4), "engin": 1}, "engin: unknown id; .* engine"),
    "engine": ({"image": np.ones((9, 9, 9)), "affine": np.eye(4), "engine": "x"}, "engine: found 'x'"),
    "device": ({"image": np.ones((9, 9, 9)), "affine": np.eye(4), "device": "abacus"}, "device: found abacus"),
    "output": ({"image": np.ones((9, 9, 9)), "affine": np.eye(4), "output_dir": "x"}, "output_dir: found an id"),
}


@pytest.mark.parametrize("case", BAD)
def test_errors_are_one_line_that_names_the_argument(case):
    arguments, message = BAD[case]
    with pytest.raises(BundleError, match=f"^{message}") as caught:
        segment(**arguments)
    assert "\n" not in str(caught.value)
    assert "--" not in str(caught.value)
