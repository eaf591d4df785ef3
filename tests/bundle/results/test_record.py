"""The record of a result: what its schema says, nothing that tells who was scanned or where the file lay."""

from __future__ import annotations

import gzip
import hashlib
import json
import os

import nibabel as nib
import numpy as np
import pytest
import torch
from jsonschema import Draft202012Validator, ValidationError

from bundle.errors import FlagWarning
from bundle.inference import KeepLargestComponentsd
from bundle.inference.settings import config_content
from bundle.io import read_volume
from bundle.io.reading import AS_STORED
from bundle.io.scale import Background, Scale
from bundle.provenance import bundle_version
from bundle.results import Maker, save_outputs
from bundle.results.flags import read_limits
from bundle.results.record import Notes, Stages, scan_record, write_json
from bundle.results.totals import TOTALS
from tests.conftest import ROOT
from tests.heads import AFFINE, CODES, TABLE, write_head
from tests.tiny_network import save_weights, tiny_network

SCHEMA = json.loads((ROOT / "configs/record.schema.json").read_text())
VALIDATOR = Draft202012Validator(SCHEMA)
UPSIDE_DOWN = np.diag([1.0, 1.0, -1.0, 1.0])


def parts_of(schema, path="record"):
    """Yield the schema of each field, however deep, with its name."""
    for name, part in schema.get("properties", {}).items():
        yield f"{path}.{name}", part
        yield from parts_of(part, f"{path}.{name}")
    for inner in ("items", "additionalProperties"):
        if isinstance(schema.get(inner), dict):
            yield from parts_of(schema[inner], f"{path}.{inner}")
    for name, part in schema.get("$defs", {}).items():
        yield from parts_of(part, name)


def saved(folder, affine=AFFINE, text="", **options):
    """Save the results of the head made by code, and return their paths and the record."""
    scan = folder / "head.nii.gz"
    codes = write_head(scan, affine, text)
    paths = save_outputs(codes, scan, folder / "out", TABLE, limits=read_limits(), **options)
    return paths, json.loads(paths.record.read_text())


def test_schema_is_one_and_describes_every_field():
    Draft202012Validator.check_schema(SCHEMA)
    fields = dict(parts_of(SCHEMA))
    assert len(fields) > 40
    assert [name for name, part in fields.items() if len(part.get("description", "")) < 8] == []
    assert set(SCHEMA["properties"]["volumes"]["properties"]) == set(TOTALS)


def test_record_of_unknown_origin_is_complete_and_says_null(tmp_path):
    paths, record = saved(tmp_path)
    VALIDATOR.validate(record)
    assert (record["weights"], record["config"], record["steps"]["largest_component"]) == (None, None, None)
    assert record["steps"]["intensities"] is None
    assert record["computation"] == dict.fromkeys(("device", "engine", "precision", "threads", "seed"))
    assert record["run"]["stages"]["read"] == {"seconds": None, "peak_memory_bytes": None}
    assert record["run"]["stages"]["write"]["seconds"] > 0
    assert (record["flags"], record["quality"]) == ([], None)
    assert len(record["flags_looked_for"]) == 20
    assert record["versions"]["bundle"] == bundle_version()
    for name, path in (("head_seg.nii.gz", paths.label_map), ("head_volumes.tsv", paths.volumes),
                       ("head_qc.png", paths.picture), ("head_seg.json", paths.sidecar)):  # fmt: skip
        assert record["outputs"].pop(name) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert record["outputs"] == {}
    assert record["input"]["sha256"] == hashlib.sha256((tmp_path / "head.nii.gz").read_bytes()).hexdigest()


def test_schema_refuses_what_it_does_not_know(tmp_path):
    _, record = saved(tmp_path)
    for change in ({"patient": "x"}, {"flags": None}, {"record_version": 2}):
        with pytest.raises(ValidationError):
            VALIDATOR.validate(record | change)
    with pytest.raises(ValidationError):
        VALIDATOR.validate(record | {"input": record["input"] | {"name": "folder/head.nii.gz"}})


def test_volumes_are_sums_over_the_label_map(tmp_path):
    paths, record = saved(tmp_path)
    codes = np.asarray(nib.load(paths.label_map).dataobj)

    def litres(*names):
        wanted = [code for name, code in CODES.items() if name.removeprefix("Left-").removeprefix("Right-") in names]
        return 64e-6 * np.isin(codes, wanted).sum()

    deep = ("Thalamus", "Caudate", "Putamen", "Pallidum", "Hippocampus", "Amygdala", "Accumbens-area", "VentralDC")
    grey = ("Cerebral-Cortex", "Cerebellum-Cortex", *deep)
    white = ("Cerebral-White-Matter", "Cerebellum-White-Matter", "Brain-Stem")
    ventricles = ("Lateral-Ventricle", "Inf-Lat-Vent", "3rd-Ventricle", "4th-Ventricle")
    wanted = {
        "brain_without_ventricles": litres(*grey, *white),
        "total_grey": litres(*grey),
        "cerebral_white": litres("Cerebral-White-Matter"),
        "ventricles": litres(*ventricles),
        "intracranial": 64e-6 * (codes > 0).sum(),
    }
    assert {name: total["volume_mm3"] * 1e-6 for name, total in record["volumes"].items()} == pytest.approx(wanted)
    assert all(total["definition"] for total in record["volumes"].values())


def test_steps_and_maker_are_told(tmp_path):
    weights = save_weights(tiny_network(), tmp_path)
    config = config_content([ROOT / "configs/inference.json"], {"pixdim": [1, 1, 1]}, {"pixdim": [1, 1, 1]})
    maker = Maker(weights, tiny_network(), torch.device("cpu"), True, config=config)
    scale = Scale(-2.5, 3.5, "inside", Background(0.0, -2.5))
    notes = Notes(maker, {17: 12, 24: 3}, np.diag([2.0, 2.0, 2.0, 1.0]), scale=scale, apart={17: 9})
    _, record = saved(tmp_path, notes=notes)
    VALIDATOR.validate(record)
    assert record["weights"] == {"model.pt": hashlib.sha256(weights.read_bytes()).hexdigest()}
    assert record["computation"] == {
        "device": "cpu", "engine": "torch", "precision": "float32", "threads": torch.get_num_threads(), "seed": None,
    }  # fmt: skip
    assert record["config"] == config
    assert record["steps"]["mirror_averaging"] is True
    assert record["steps"]["intensities"] == {
        "low": -2.5, "high": 3.5, "source": "inside", "background": {"value": 0.0, "black": -2.5},
    }  # fmt: skip
    assert record["steps"]["largest_component"] == {
        "voxels_moved": 15,
        "structures": {
            "Left-Hippocampus": {"voxels": 12, "volume_mm3": 96.0}, "CSF": {"voxels": 3, "volume_mm3": 24.0},
        },
        "apart": {"Left-Hippocampus": {"voxels": 9, "volume_mm3": 72.0}},
    }  # fmt: skip


def test_transform_tells_what_each_structure_lost(tmp_path):
    (tmp_path / "labels.tsv").write_text("index\tname\n7\tone\n9\ttwo\n")
    logits = torch.zeros(3, 9, 9, 9)
    logits[1, :3] = logits[1, 6, :2, :2] = logits[2, 5, 5, 5] = logits[2, 5, 8, 7:] = 1
    data = KeepLargestComponentsd("pred", [7, 9], tmp_path / "labels.tsv")({"pred": logits})
    assert data["pred_dropped"] == {7: 4}
    assert data["pred_apart"] == {9: 1}


def test_config_hash_counts_what_changes_a_result_and_no_place(tmp_path):
    file = [ROOT / "configs/inference.json"]

    def content(**config):
        return config_content(file, {"pixdim": [1.25] * 3, **config}, config)

    here, there = (content(output_dir=f"/{name}", datalist=[f"/{name}/a.nii"], overwrite=True) for name in "ab")
    assert here == there
    assert here["overrides"] == {}
    assert content(pixdim=[2, 2, 2])["sha256"] != here["sha256"]
    assert content(splits="/somewhere/x.json")["overrides"] == {"splits": "x.json"}
    assert here["files"] == [{"name": "inference.json", "sha256": hashlib.sha256(file[0].read_bytes()).hexdigest()}]


def test_no_folder_and_no_text_of_the_header_is_in_any_output(tmp_path):
    folder = tmp_path / "ward_7_jane_doe"
    folder.mkdir()
    paths, _ = saved(folder, text="DOE^JANE")
    for path in vars(paths).values():
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        for secret in (b"jane_doe", b"DOE^JANE", b"ward_7"):
            assert secret not in content, path.name
    assert b"DOE^JANE" in gzip.decompress((folder / "head.nii.gz").read_bytes())


def test_warnings_of_the_reading_are_kept_without_the_folder(tmp_path):
    scan = tmp_path / "head.nii"
    codes = write_head(scan)
    raw = bytearray(scan.read_bytes())
    raw[80:84] = np.float32(4.03).tobytes()  # pixdim[1]
    scan.write_bytes(raw)
    paths = save_outputs(codes, scan, tmp_path / "out", TABLE)
    record = json.loads(paths.record.read_text())
    (warning,) = record["input"]["warnings"]
    assert warning.startswith("head.nii: found pixdim 4.03 x 4 x 4")
    assert record["input"]["affine_source"] == "sform"
    assert record["input"]["orientation"] == "RAS"
    assert record["input"]["affine"] == AFFINE.tolist()
    assert record["flags_looked_for"] == []  # no thresholds were given


def test_flagged_scan_is_a_warning_a_column_and_a_line_of_the_picture(tmp_path):
    with pytest.warns(FlagWarning) as caught:
        paths, record = saved(tmp_path, UPSIDE_DOWN @ AFFINE)
    (warning,) = caught
    assert str(warning.message) == (
        f"{tmp_path}/head.nii.gz: look twice: upside_down: cerebellum and brain stem not below the cerebral "
        "hemispheres; see head_record.json"
    )
    (flag,) = record["flags"]
    VALIDATOR.validate(record)
    assert (flag["code"], flag["structure"], flag["threshold"]) == ("upside_down", None, 15)
    assert flag["value"] < 0
    rows = [line.split("\t") for line in paths.volumes.read_text().splitlines()]
    assert rows[0][-1] == "flags"
    assert {row[-1] for row in rows[1:]} == {"upside_down"}


def test_name_of_any_bytes_is_valid_json(tmp_path):
    scan = tmp_path / os.fsdecode(b"he\xffad.nii.gz")
    write_head(scan)
    volume = read_volume(scan)
    record = scan_record(volume, AS_STORED, [], [], dict.fromkeys(TOTALS), [], [], [], Notes(), TABLE)
    write_json(record, tmp_path / "record.json")
    assert os.fsencode(json.loads((tmp_path / "record.json").read_bytes())["input"]["name"]) == b"he\xffad.nii.gz"


def test_stages_add_up_to_the_time_that_passed(monkeypatch):
    clock = iter([10.0, 11.5, 14.0])
    monkeypatch.setattr("bundle.results.record.time.perf_counter", lambda: next(clock))
    stages = Stages()
    stages.end("read")
    stages.end("network")
    assert [stages.content[name]["seconds"] for name in ("read", "network", "restore")] == [1.5, 2.5, None]
