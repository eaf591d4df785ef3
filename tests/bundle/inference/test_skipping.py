"""monai.bundle run goes on past scans that cannot be used, with worker processes or without, or stops as it is told."""

from __future__ import annotations

import shutil

import pytest
from monai.bundle import run

from bundle.errors import InputError, one_line, root_cause
from bundle.inference.batches import FAILED, collate_scans
from bundle.inference.skipping import SkippingDataset
from tests.conftest import ROOT

COARSE = {"pixdim": [12.0] * 3, "precision": "float32", "engine": "torch"}


@pytest.fixture(scope="module")
def scans(tiny_scan, tmp_path_factory):
    """Good scans and bad ones, in turn."""
    folder = tmp_path_factory.mktemp("scans")
    for name in ("a", "c", "e", "$f#1"):  # the last would be an expression, were it an option
        shutil.copy(tiny_scan, folder / f"{name}.nii.gz")
    (folder / "b.nii.gz").write_bytes(tiny_scan.read_bytes()[:3000])
    (folder / "d.nii.gz").write_text("text")
    (folder / "gone.nii.gz").symlink_to("nowhere")
    return folder


def test_bad_scans_are_one_line_each_and_the_reason_is_the_last(scans, host, tmp_path):
    out = tmp_path / "out"
    (out / "e" / "e_qc.png").mkdir(parents=True)
    options = {"dataset_dir": scans, "output_dir": out, "dataloader#num_workers": 2, "device": "cpu", **COARSE}
    done = host.run(
        "monai.bundle", "run", "--config_file", "configs/inference.json",
        *(part for name, value in options.items() for part in (f"--{name}", value)),
    )  # fmt: skip
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 1
    assert [line.split(":")[1].strip() for line in errors] == [
        str(scans / "e.nii.gz"), *(str(scans / f"{name}.nii.gz") for name in ("b", "d", "gone")), "scans",
    ]  # fmt: skip
    assert done.stderr.splitlines()[-1] == errors[-1]
    assert errors[-1].startswith(
        f"error: scans: 4 of 7 failed, the first being {scans}/e.nii.gz: {out}/e/e_qc.png: is a"
    )
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in out.iterdir()) == ["$f#1", "a", "c", "e"]
    assert [len(list((out / name).iterdir())) for name in ("a", "c", "$f#1")] == [5, 5, 5]


def test_failure_while_writing_does_not_stop_the_others(scans, tmp_path, monkeypatch, capsys):
    def draw(*arguments: object, title: str, **_: object) -> None:
        arguments[4].write_text("a picture") if title == "c.nii.gz" else 1 / 0

    monkeypatch.setattr("bundle.results.outputs.draw_qc", draw)
    monkeypatch.chdir(ROOT)
    datalist = [str(scans / f"{name}.nii.gz") for name in "ac"]
    with pytest.raises(RuntimeError) as caught:
        run(
            config_file="configs/inference.json", datalist=datalist, output_dir=str(tmp_path), logging_file=False,
            device="cpu", **COARSE,
        )  # fmt: skip
    assert f"scans: 1 of 2 failed, the first being ZeroDivisionError: {datalist[0]}" in one_line(caught.value)
    assert capsys.readouterr().err.count("error: ZeroDivisionError") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_raise_stops_at_the_first_bad_scan(scans, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(RuntimeError) as caught:
        run(
            config_file="configs/inference.json", datalist=[str(scans / f"{name}.nii.gz") for name in "ba"],
            output_dir=str(tmp_path), logging_file=False, device="cpu", on_error="raise", **COARSE,
        )  # fmt: skip
    assert isinstance(root_cause(caught.value), InputError)
    assert one_line(caught.value).startswith(f"{scans}/b.nii.gz: found damaged or truncated")
    assert list(tmp_path.iterdir()) == []


def test_batch_keeps_what_could_be_loaded():
    def load(item):
        if item["image"] == "bad":
            raise InputError("bad", "found nothing", "a scan is wanted")
        return {"value": len(item["image"])}

    dataset = SkippingDataset([{"image": name} for name in ("good", "bad", "better")], load)
    batch = collate_scans([dataset[index] for index in range(3)])
    assert batch["value"].tolist() == [4, 6]
    assert batch[FAILED] == ["bad: found nothing; a scan is wanted"]
    assert collate_scans([dataset[1]]) == {FAILED: ["bad: found nothing; a scan is wanted"]}
    assert FAILED not in collate_scans([dataset[0]])
    with pytest.raises(RuntimeError):
        SkippingDataset(dataset.data, load, "raise")[1]
