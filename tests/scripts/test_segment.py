"""scripts.segment on good and bad files."""

from __future__ import annotations

import gzip
import json
import random
import shutil
import subprocess
import sys
import time

import nibabel as nib
import numpy as np
import pytest
import torch

from bundle.io import load_weights
from bundle.model import build_network, read_model
from tests.conftest import MEDIUM, ROOT


def _missing(path, _):
    pass


def _empty(path, _):
    path.write_bytes(b"")


def _truncated(path, scan):
    path.write_bytes(scan.read_bytes()[:20_000])


def _two_dimensional(path, _):
    nib.Nifti1Image(np.ones((20, 20), dtype=np.float32), np.eye(4)).to_filename(path)


def _four_dimensional(path, _):
    nib.Nifti1Image(np.random.default_rng(0).random((12, 12, 12, 3), dtype=np.float32), np.eye(4)).to_filename(path)


def _text(path, _):
    path.write_text("patient: none\n")


def _gzipped_text(path, _):
    path.write_bytes(gzip.compress(b"patient: none\n" * 100))


def _nan(path, scan):
    data = nib.load(scan).get_fdata(dtype=np.float32)
    data[3, 4, 5] = np.nan
    nib.Nifti1Image(data, nib.load(scan).affine).to_filename(path)


BAD = {
    "missing": (_missing, "no such file"),
    "empty": (_empty, "empty"),
    "truncated": (_truncated, "complete"),
    "two_dimensional": (_two_dimensional, "shape"),
    "four_dimensional": (_four_dimensional, "shape"),
    "text": (_text, "NIfTI"),
    "gzipped_text": (_gzipped_text, "NIfTI"),
    "nan": (_nan, "NaN"),
}


@pytest.fixture(scope="module")
def batch(host, small_scan, coarse_config, tmp_path_factory):
    """One run over all bad files, with a good one in their midst, in a process of its own."""
    folder = tmp_path_factory.mktemp("batch")
    paths = []
    for name, (spoil, _) in BAD.items():
        paths.append(folder / f"{name}.nii.gz")
        spoil(paths[-1], small_scan)
    paths.insert(4, small_scan)
    return folder, host.run("scripts.segment", *paths, "--config", coarse_config, "--output-dir", folder / "out")


def test_one_bad_scan_does_not_stop_the_others(batch):
    folder, done = batch
    assert done.returncode == 1
    assert f"1 of {len(BAD) + 1} scans segmented" in done.stdout
    assert [path.name for path in (folder / "out").iterdir()] == ["small"]
    assert len(list((folder / "out" / "small").iterdir())) == 5


@pytest.mark.parametrize("name", BAD)
def test_bad_scan_is_one_line_with_its_name_and_the_reason(batch, name):
    folder, done = batch
    lines = [line for line in done.stderr.splitlines() if f"/{name}.nii.gz" in line]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith(f"error: {folder / name}.nii.gz: ")
    assert BAD[name][1] in lines[0]
    assert "Traceback" not in done.stderr


def test_volumes_table_agrees_with_the_label_map(batch):
    folder, _ = batch
    labels = np.asarray(nib.load(folder / "out/small/small_seg.nii.gz").dataobj)
    header, *rows = (folder / "out/small/small_volumes.tsv").read_text().splitlines()
    assert header.split("\t")[:4] == ["code", "name", "voxels", "volume_mm3"]
    assert len(rows) == 32
    for row in rows:
        code, _, voxels, volume, *_ = row.split("\t")
        assert int(voxels) == (labels == int(code)).sum()
        assert float(volume) == pytest.approx(27 * int(voxels), rel=1e-5)


def test_existing_output_is_kept_unless_overwriting(batch, run_main, small_scan, coarse_config):
    folder, _ = batch
    table = folder / "out/small/small_volumes.tsv"
    table.write_text("mine")
    again = (small_scan, "--config", coarse_config, "--output-dir", folder / "out")
    refused = run_main("scripts.segment", *again)
    assert refused.returncode == 1
    assert "exists already" in refused.stderr
    assert table.read_text() == "mine"
    replaced = run_main("scripts.segment", *again, "--overwrite", "--device", "cpu")
    assert replaced.returncode == 0, replaced.stderr
    assert table.read_text().startswith("code\t")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checkpoint", "none.pt"], "none.pt: not found"),
        (["--device", "warp:0"], "warp"),
        (["--config", "none.json"], "none.json: no such file"),
        (["--config", "configs/deploy.json", "--mirror-averaging"], "mirror_averaging: unknown id"),
    ],
)
def test_wrong_option_is_one_line(run_main, small_scan, tmp_path, arguments, message):
    done = run_main("scripts.segment", small_scan, "--output-dir", tmp_path / "out", *arguments)
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line]
    assert len(errors) == 1
    assert errors[0].startswith("error: ")
    assert message in errors[0]
    assert not (tmp_path / "out").exists()


def test_of_two_scans_of_one_name_the_first_is_done(run_main, tiny_scan, tiny_config, tmp_path):
    arguments = ("--output-dir", tmp_path / "out", "--config", tiny_config)
    done = run_main("scripts.segment", tiny_scan, tmp_path / tiny_scan.name, *arguments)
    assert done.returncode == 1
    assert "one output for each scan is wanted" in done.stderr
    assert done.stdout.endswith("1 of 2 scans segmented\n")


def test_slightly_stale_pixdim_is_a_warning(run_main, small_scan, coarse_config, tmp_path):
    scan = nib.load(small_scan)
    scan.header["pixdim"][1] *= 1.005
    stale = tmp_path / "stale.nii"
    raw = bytearray(nib.Nifti1Image(scan.get_fdata(dtype=np.float32), scan.affine).to_bytes())
    raw[76:92] = scan.header["pixdim"][:4].tobytes()
    stale.write_bytes(raw)
    done = run_main("scripts.segment", stale, "--config", coarse_config, "--output-dir", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    warnings = [line for line in done.stderr.splitlines() if line.startswith("warning: ") and "the model" not in line]
    assert len(warnings) == 1
    assert "stale.nii: found pixdim" in warnings[0]


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """The TorchScript form of the shipped weights."""
    path = tmp_path_factory.mktemp("archive") / "model.ts"
    network = load_weights(build_network(read_model(ROOT / "models")), ROOT / "models/model.pt")
    torch.jit.save(torch.jit.script(network), str(path))
    return path


@pytest.mark.slow
def test_deploy_config_segments_with_an_exported_archive(run_main, archive, small_scan, medium_config, tmp_path):
    deploy = json.loads((ROOT / "configs/deploy.json").read_text()) | {"pixdim": MEDIUM}
    (tmp_path / "deploy.json").write_text(json.dumps(deploy))
    own = run_main(
        "scripts.segment", small_scan, "--config", medium_config, "--output-dir", tmp_path / "own", "--device", "cpu"
    )
    done = run_main(
        "scripts.segment", small_scan, "--config", tmp_path / "deploy.json", "--checkpoint", archive,
        "--output-dir", tmp_path / "out", "--device", "cpu",
    )  # fmt: skip
    assert (own.returncode, done.returncode) == (0, 0), done.stderr
    assert done.stdout.startswith("engine torchscript")
    found, wanted = (
        nib.load(tmp_path / folder / "small" / "small_seg.nii.gz").get_fdata() for folder in ("out", "own")
    )
    assert (found == wanted).mean() > 0.995  # it leaves strays in, which the inference config removes
    assert sorted(path.name for path in (tmp_path / "out" / "small").iterdir()) == [
        "small_qc.png", "small_record.json", "small_seg.json", "small_seg.nii.gz", "small_volumes.tsv",
    ]  # fmt: skip


KILLED = """
import logging, os, sys, time
import torch
logging.disable(logging.ERROR)
torch.set_num_threads(1)  # threads that were started would not live on in a child
from bundle.errors import one_line
from bundle.inference.segmenter import Segmenter
config, scan, out = sys.argv[1:]
segmenter = Segmenter(config, engine="torch", device="cpu", output_dir=out, bundle_root=".")
print("ready", flush=True)
for line in sys.stdin:
    child = os.fork()
    if not child:
        try:
            segmenter.segment(scan)
        except BaseException as error:
            print(one_line(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    time.sleep(float(line)) if line.strip() else os.waitpid(child, 0)
    try:
        os.kill(child, 9)
        os.waitpid(child, 0)
    except (ProcessLookupError, ChildProcessError):
        pass
    print("ended", flush=True)
"""
"""Segments a scan in a child for each line that it reads, and kills the child after so many seconds."""
KILLS = 40


def results(folder):
    """Return the files of a result by their names, and what is in them but for times and memory."""
    found = {path.name: path.read_bytes() for path in folder.glob("small_*")}
    if "small_record.json" in found:
        record = json.loads(found["small_record.json"])
        del record["run"]
        found["small_record.json"] = json.dumps(record).encode()
    return found


@pytest.mark.slow
def test_segmentation_that_is_killed_leaves_whole_files_or_none(small_scan, coarse_config, tmp_path):
    whole = tmp_path / "whole"
    command = [sys.executable, "-c", KILLED, coarse_config, small_scan]
    wanted = {}
    with subprocess.Popen(
        [*command, whole], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        started = None
        assert process.stdout.readline() == "ready\n"
        for _ in range(2):  # the second is as fast as all that follow
            shutil.rmtree(whole, ignore_errors=True)
            started = time.perf_counter()
            print(file=process.stdin, flush=True)
            assert process.stdout.readline() == "ended\n"
        seconds = time.perf_counter() - started
        process.stdin.close()
    wanted = results(whole / "small")
    assert len(wanted) == 5
    out, draw, complete = tmp_path / "out", random.Random(), 0
    with subprocess.Popen(
        [*command, out], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        for kill in range(KILLS):
            # Half of them while files are written, which is the last part.
            print(draw.uniform((kill % 2) * 0.6, 1.1) * seconds, file=process.stdin, flush=True)
            assert process.stdout.readline() == "ended\n"
            final = results(out / "small")
            assert final.items() <= wanted.items()  # whatever has a final name is whole
            if "small_record.json" in final:
                complete += 1
                assert final == wanted
                shutil.rmtree(out)
        print(file=process.stdin, flush=True)  # the next run completes
        assert process.stdout.readline() == "ended\n"
        process.stdin.close()
    assert results(out / "small") == wanted
    assert len(list((out / "small").iterdir())) == 5
    assert complete < KILLS
