"""configs/inference.json, run by MONAI: properties, overrides, outputs and geometry."""

from __future__ import annotations

import json
import shutil
from pydoc import locate

import nibabel as nib
import numpy as np
import pytest
import torch
from jsonschema import validate
from monai.bundle import create_workflow, run, verify_metadata, verify_net_in_out
from monai.bundle.properties import InferProperties
from monai.utils.enums import BundlePropertyConfig
from scipy.ndimage import label

from bundle.errors import OptionError, one_line
from bundle.inference.segmenter import Segmenter
from bundle.labels import mirrored_channels, read_labels
from bundle.provenance import sha256
from tests.conftest import COARSE, MEDIUM, ROOT, SHARED_DATA
from tests.geometries import make_geometries

ID = BundlePropertyConfig.ID
NAMES = {label.code: label.name for label in read_labels()}
CODES = set(NAMES)
INNER_CODES = (2, 41, 10, 49, 12, 51)  # the turned field of view of the oblique scan cuts stem and cerebellum
GEOMETRY_FIELDS = ("sform_code", "qform_code", "xyzt_units", "srow_x", "srow_y", "srow_z", "pixdim", "qoffset_x")
TABLES = ["labels.tsv", "flags.json", "reference_volumes.tsv"]
FLOAT32 = {"precision": "float32"}  # which every processor computes alike
TINY = {"pixdim": [12.0] * 3, **FLOAT32}  # for what holds of any labels
FINER = {"pixdim": [1.5, 1.5, 1.5], **FLOAT32}  # coarser, and structures move by more than their bar
needs_bfloat16 = pytest.mark.skipif(
    not torch.cpu._is_avx512_bf16_supported(), reason="this processor does not compute in bfloat16"
)


@pytest.fixture(autouse=True)
def _from_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def assert_belongs_to(label_path, scan_path):
    labels, scan = nib.load(label_path), nib.load(scan_path)
    assert labels.shape == scan.shape
    assert labels.get_data_dtype() == np.int16
    np.testing.assert_allclose(labels.affine, scan.affine, atol=1e-6)
    for field in GEOMETRY_FIELDS:
        np.testing.assert_array_equal(labels.header[field], scan.header[field], err_msg=field)
    found = set(np.unique(np.asarray(labels.dataobj)).tolist())
    assert found <= CODES
    assert {0, 2, 3, 41, 42} <= found


def test_all_inference_properties_exist():
    workflow = create_workflow(config_file="configs/inference.json", workflow_type="infer", datalist=["a.nii.gz"])
    assert workflow.check_properties() == []
    assert [prop[ID] for prop in InferProperties.values() if prop[ID] not in workflow.parser] == []


def test_metadata_matches_the_published_schema():
    schema = SHARED_DATA / "meta_schema_20240725.json"
    if not schema.is_file():
        pytest.skip("the schema file is not here and tests use no network")
    verify_metadata(meta_file="configs/metadata.json", filepath=str(schema))


def test_metadata_at_the_top_is_the_same_file():
    assert json.loads((ROOT / "metadata.json").read_text()) == json.loads((ROOT / "configs/metadata.json").read_text())
    channels = json.loads((ROOT / "metadata.json").read_text())["network_data_format"]["outputs"]["pred"]["channel_def"]
    assert channels == {str(label.channel): label.name for label in read_labels()}


def test_network_keeps_its_declared_input_and_output():
    verify_net_in_out(
        net_id="network_def", meta_file="configs/metadata.json", config_file="configs/inference.json", device="cpu", n=3
    )


def test_monai_run_segments_a_list_of_scans(host, small_scan, tmp_path):
    second = tmp_path / "b.nii"
    nib.load(small_scan).to_filename(second)
    arguments = ["--datalist", [str(small_scan), str(second)], "--output_dir", tmp_path / "out", "--pixdim", COARSE]
    arguments += ["--precision", "float32"]
    done = host.run("monai.bundle", "run", "--config_file", "configs/inference.json", *arguments)
    assert done.returncode == 0, done.stderr
    for scan, stem in ((small_scan, "small"), (second, "b")):
        folder = tmp_path / "out" / stem
        assert sorted(path.name for path in folder.iterdir()) == [
            f"{stem}_qc.png", f"{stem}_record.json", f"{stem}_seg.json", f"{stem}_seg.nii.gz", f"{stem}_volumes.tsv",
        ]  # fmt: skip
        record = json.loads((folder / f"{stem}_record.json").read_text())
        validate(record, json.loads((ROOT / "configs/record.schema.json").read_text()))
        assert record["config"]["overrides"] == {"pixdim": COARSE, "precision": "float32"}
        assert [file["name"] for file in record["config"]["files"]] == ["inference.json", *TABLES]
        assert record["config"]["settings"]["pixdim"] == COARSE
        assert all(stage["seconds"] > 0 for stage in record["run"]["stages"].values())
        assert record["weights"] == {"model.pt": sha256(ROOT / "models/model.pt")}
        assert record["computation"]["precision"] == "float32"
        assert record["steps"]["mirror_averaging"] is False
        assert record["steps"]["largest_component"]["voxels_moved"] > 0
        assert_belongs_to(folder / f"{stem}_seg.nii.gz", scan)
    segmenter = Segmenter(output_dir=str(tmp_path / "own"), pixdim=COARSE, precision="float32")
    own = json.loads(segmenter.segment(small_scan).record.read_text())
    assert own["config"] == record["config"], "the same config, whichever program runs it"
    with pytest.raises(RuntimeError) as caught:
        run(config_file="configs/inference.json", datalist=[str(small_scan)], output_dir=str(tmp_path / "out"))
    assert "small_seg.nii.gz: exists already" in one_line(caught.value)


def test_dataset_dir_alone_with_overridden_inferer_and_dataloader(small_scan, tmp_path):
    (tmp_path / "in").mkdir()
    shutil.copy(small_scan, tmp_path / "in" / "c.nii.gz")
    (tmp_path / "in" / "notes.txt").write_text("no scan")
    run(
        config_file="configs/inference.json", dataset_dir=str(tmp_path / "in"), output_dir=str(tmp_path / "out"),
        pixdim=[4.0, 4.0, 4.0], device="$torch.device('cpu')", **FLOAT32,
        inferer={"_target_": "SlidingWindowInferer", "roi_size": [48, 48, 48], "overlap": 0.5},
        **{"dataloader#num_workers": 1},
    )  # fmt: skip
    assert_belongs_to(tmp_path / "out" / "c" / "c_seg.nii.gz", small_scan)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["c"]


@pytest.fixture(scope="module")
def geometries(small_scan, tmp_path_factory):
    scan = nib.load(small_scan)
    folder = tmp_path_factory.mktemp("geometries")
    return make_geometries(folder, scan.get_fdata(dtype=np.float32), scan.affine)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::bundle.io.GeometryWarning")
def test_odd_geometries_keep_their_grid_and_their_anatomy(geometries, tmp_path):
    segmenter = Segmenter(output_dir=str(tmp_path), **FINER)
    assert len(geometries) == 6
    centres = {}
    for name, scan in geometries.items():
        labels = segmenter.segment(scan).label_map
        assert_belongs_to(labels, scan)
        image = nib.load(labels)
        data = np.asarray(image.dataobj)
        centres[name] = {
            code: nib.affines.apply_affine(image.affine, np.argwhere(data == code)).mean(0) for code in INNER_CODES
        }
    for name, found in centres.items():
        for code, centre in found.items():
            distance = np.linalg.norm(centre - centres["ras"][code])
            assert distance < 4, f"structure {code} moved by {distance:.1f} mm in {name}"
        assert found[2][0] < -10 < 10 < found[41][0], f"left and right are mixed in {name}"


def test_same_scan_gives_the_same_bytes_times_and_memory_aside(small_scan, tmp_path):
    outputs = [Segmenter(output_dir=str(tmp_path / name), pixdim=COARSE).segment(small_scan) for name in "ab"]
    contents = [{name: path.read_bytes() for name, path in vars(paths).items()} for paths in outputs]
    for content in contents:
        record = json.loads(content["record"])
        run = record.pop("run")
        assert all(stage["seconds"] > 0 and stage["peak_memory_bytes"] > 1e8 for stage in run["stages"].values())
        content["record"] = json.dumps(record, indent=2)
    assert contents[0] == contents[1]


@pytest.fixture(scope="module")
def mirrored_scan(small_scan, tmp_path_factory):
    scan = nib.load(small_scan)
    mirrored = nib.Nifti1Image(np.flip(scan.get_fdata(dtype=np.float32), 0), scan.affine)
    mirrored.header.set_xyzt_units("mm", "sec")
    path = tmp_path_factory.mktemp("mirrored") / "mirrored.nii.gz"
    mirrored.to_filename(path)
    return path


@pytest.mark.parametrize(
    ("precision", "bar"),
    [("float32", 0.9999), pytest.param("bfloat16", 0.999, marks=[needs_bfloat16, pytest.mark.slow])],
)
def test_mirror_averaging_gives_a_mirrored_scan_the_mirrored_labels(
    run_main, small_scan, mirrored_scan, medium_config, tmp_path, precision, bar
):
    done = run_main(
        "scripts.segment", small_scan, mirrored_scan, "--config", medium_config, "--output-dir", tmp_path,
        "--mirror-averaging", "--precision", precision, "--device", "cpu",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert precision in done.stdout.splitlines()[0]
    found, other = (
        np.asarray(nib.load(tmp_path / name / f"{name}_seg.nii.gz").dataobj) for name in ("small", "mirrored")
    )
    table = read_labels()
    opposite = np.zeros(256, dtype=int)
    opposite[[row.code for row in table]] = [table[channel].code for channel in mirrored_channels(table)]
    assert (np.flip(other, 0) == opposite[found]).mean() > bar


@needs_bfloat16
def test_bfloat16_finds_what_float32_finds(small_scan, tmp_path):
    found = []
    for precision in ("bfloat16", "float32"):
        segmenter = Segmenter(output_dir=str(tmp_path / precision), device="cpu", pixdim=COARSE, precision=precision)
        found.append(np.asarray(nib.load(segmenter.segment(small_scan).label_map).dataobj))
    brain = (found[0] > 0) | (found[1] > 0)
    assert (found[0] == found[1])[brain].mean() > 0.98


@pytest.mark.slow
def test_structures_are_of_one_piece_unless_the_config_says_otherwise(sample, tmp_path):
    image = nib.load(sample)
    blocks = image.get_fdata(dtype=np.float32)[:196, :232, :188].reshape(98, 2, 116, 2, 94, 2).mean(axis=(1, 3, 5))
    scan = nib.Nifti1Image(blocks, image.affine @ np.diag([2, 2, 2, 1.0]))
    scan.header.set_xyzt_units("mm", "sec")
    scan.to_filename(tmp_path / "scan.nii.gz")

    def pieces(**overrides):
        segmenter = Segmenter(output_dir=str(tmp_path / str(len(overrides))), **overrides)
        outputs = segmenter.segment(tmp_path / "scan.nii.gz")
        labels, steps = np.asarray(nib.load(outputs.label_map).dataobj), json.loads(outputs.record.read_text())["steps"]
        counts = {code: label(labels == code, np.ones((3, 3, 3)))[1] for code in CODES - {0, 5, 24, 44}}
        return counts, {code for code, name in NAMES.items() if name in steps["largest_component"]["apart"]}

    overrides = {"pixdim": MEDIUM, "device": "cpu", **FLOAT32}  # the grid of the scan: no piece falls apart on the way
    (kept, large), (all_pieces, _) = pieces(**overrides), pieces(**overrides, largest_component=[])
    assert {code for code, count in kept.items() if count > 1} <= large  # they are told of
    assert len(large) < 3
    assert sum(all_pieces.values()) > sum(kept.values())


def test_failure_while_writing_leaves_nothing(tiny_scan, tmp_path, monkeypatch):
    monkeypatch.setattr("bundle.results.outputs.draw_qc", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        Segmenter(output_dir=str(tmp_path), **TINY).segment(tiny_scan)
    assert list(tmp_path.iterdir()) == []


def test_labels_of_an_evaluation_config_write_nothing(tiny_scan, tmp_path):
    configs = ["configs/inference.json", "configs/evaluate.json"]
    segmenter = Segmenter(configs, output_dir=str(tmp_path / "out"), **TINY)
    data = segmenter.preprocessing({"image": str(tiny_scan)})
    logits = segmenter.logits(data)
    before = logits.clone()
    label_map = segmenter.labels(data, logits)
    assert list(tmp_path.iterdir()) == []
    assert torch.equal(logits, before)
    written = segmenter.segment(tiny_scan).label_map
    np.testing.assert_array_equal(label_map, np.asarray(nib.load(written).dataobj))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["tiny"]


def test_option_that_the_config_does_not_have_is_refused(tmp_path):
    with pytest.raises(OptionError, match=r"^pixdims: unknown id; did you mean pixdim\?$"):
        Segmenter(output_dir=str(tmp_path), pixdims=COARSE)


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("bundle.outputs.SaveOutputsd", "bundle.results.SaveOutputsd"),
        ("bundle.report.draw_qc", "bundle.results.draw_qc"),
        ("bundle.memory.keep_freed_memory", "bundle.machine.keep_freed_memory"),
        ("bundle.precision.use_bfloat16", "bundle.machine.use_bfloat16"),
        ("bundle.segmenter.Segmenter", "bundle.inference.segmenter.Segmenter"),
        ("bundle.training.SyntheticBrainDataset", "bundle.synthesis.SyntheticBrainDataset"),
        ("bundle.training.find_pairs", "bundle.datasets.find_pairs"),
        ("bundle.inference.load_network", "bundle.engines.load_network"),
        ("bundle.export.write_torchscript", "bundle.forms.write_torchscript"),
        ("bundle.evaluation.read_label_map", "bundle.io.read_label_map"),
    ],
)
def test_target_of_an_older_config_is_found(target, name):
    assert locate(target) is not None
    assert locate(target) is locate(name)
