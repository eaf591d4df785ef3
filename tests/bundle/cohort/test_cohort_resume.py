"""Whether an earlier result holds."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import pytest

from bundle.cohort.resume import standing_of
from bundle.errors import ExistsError
from bundle.provenance import sha256
from bundle.results import OutputPaths

MAKER = SimpleNamespace(weights_content={"model.pt": "1"}, config_content={"sha256": "2", "files": (1, 2)})


@pytest.fixture
def result(tmp_path):
    """A scan and a result of it; both hold."""
    scan = tmp_path / "scan.nii.gz"
    scan.write_bytes(b"scan")
    paths = OutputPaths.of(scan, tmp_path / "out")
    paths.record.parent.mkdir(parents=True)
    others = (paths.label_map, paths.volumes, paths.picture, paths.sidecar)
    for path in others:
        path.write_bytes(path.name.encode())
    content = {
        "input": {"sha256": sha256(scan)},
        "outputs": {path.name: sha256(path) for path in others},
        "weights": {"model.pt": "1"},
        "config": {"sha256": "2", "files": [1, 2]},
    }
    paths.record.write_text(json.dumps(content))
    for path in (scan, *others):
        os.utime(path, (1000, 1000))
    return scan, paths


def standing(result, maker=MAKER, trust_mtime=False):
    return standing_of(result[1], result[0], maker, trust_mtime)


@pytest.mark.parametrize("trust_mtime", [False, True])
def test_untouched_result_holds(result, trust_mtime):
    assert standing(result, trust_mtime=trust_mtime).record["weights"] == {"model.pt": "1"}


@pytest.mark.parametrize("trust_mtime", [False, True])
def test_changed_scan_is_done_again(result, trust_mtime):
    result[0].write_bytes(b"other")
    os.utime(result[0], (2**32, 2**32))
    assert standing(result, trust_mtime=trust_mtime).reason == "the scan has changed"


@pytest.mark.parametrize("trust_mtime", [False, True])
def test_changed_output_is_never_replaced(result, trust_mtime):
    result[1].label_map.write_bytes(b"corrected by hand")
    os.utime(result[1].label_map, (2**32, 2**32))
    with pytest.raises(ExistsError, match="was changed since it was written"):
        standing(result, trust_mtime=trust_mtime)


def test_trusted_times_spare_the_reading(result):
    result[0].write_bytes(b"other")
    os.utime(result[0], (1000, 1000))
    assert standing(result, trust_mtime=True).record is not None
    assert standing(result).record is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"weights_content": {"model.pt": "9"}}, "the weights have changed"),
     ({"config_content": {"sha256": "9", "files": (1, 2)}}, "the config has changed")],
)  # fmt: skip
def test_other_weights_or_config_do_it_again(result, changes, reason):
    assert standing(result, SimpleNamespace(**{**vars(MAKER), **changes})).reason == reason


@pytest.mark.parametrize("text", ["", '{"outputs": {', "[1]", '{"outputs": 3}'])
def test_torn_record_is_done_again(result, text):
    result[1].record.write_text(text)
    assert standing(result).reason == "its record cannot be read"


def test_missing_output_is_made_again(result):
    result[1].picture.unlink()
    assert standing(result).reason == "scan_qc.png is missing"


def test_output_without_a_record_is_somebodys(result):
    result[1].record.unlink()
    with pytest.raises(ExistsError, match="without the record"):
        standing(result)


def test_nothing_there_has_no_reason(result, tmp_path):
    scan = result[0]
    found = standing_of(OutputPaths.of(scan, tmp_path / "elsewhere"), scan, MAKER)
    assert (found.record, found.reason) == (None, "")
