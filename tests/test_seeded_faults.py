"""Each fault that the field has seen in its attention code, seeded in a copy of the code: some test must fail."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MATRIX = ("tests/networks/test_attention_matrix.py", "formula and not gradients and (plain or dropout)")
FAULTS = {
    "eager kernel scaled by the number of heads (timm issue #2385)": (
        "networks/kernel.py", "q * self.scale", "q * q.shape[1] ** -0.5", *MATRIX,
    ),
    "pool with a blank after its name accepted (timm issue #2272)": (
        "networks/pooling.py", "global_pool not in GLOBAL_POOLS:", "global_pool.strip() not in GLOBAL_POOLS:",
        "tests/networks/test_vit.py", "bad_reset or bad_arguments",
    ),
    "dropout in evaluation (MONAI's fused path)": (
        "networks/kernel.py", "self.dropout_rate if self.training else 0.0", "self.dropout_rate", *MATRIX,
    ),
    "heads interleaved with channels": (
        "networks/attention.py", "self.num_heads, self.dim_head).transpose(1, 2)",
        "self.dim_head, self.num_heads).permute(0, 3, 1, 2)", *MATRIX,
    ),
    "NaN for a query without keys (MONAI's eager path)": (
        "networks/kernel.py", "allowed = allowed | keyless", "allowed = allowed & allowed",
        "tests/networks/test_attention_matrix.py", "gradients and plain",
    ),
    "a query without keys attends to all": (
        "networks/kernel.py", "return out if keyless is None else out.masked_fill(keyless, 0.0)", "return out", *MATRIX,
    ),
    "block mask left out": (
        "networks/local_attention.py", "attn_mask is not None or self._needs_mask(x)", "attn_mask is not None",
        "tests/networks/test_local_attention.py", "block_diagonal and not gradients",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def scratch_copy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scratch")
    for name in ("networks", "tests/networks"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_seeded_fault_makes_a_test_fail(host, scratch_copy, fault):
    name, right, wrong, tests, selection = FAULTS[fault]
    source = scratch_copy / name
    code = source.read_text()
    assert code.count(right) == 1, "the fault must be seeded in one place"
    source.write_text(code.replace(right, wrong))
    try:
        options = ("-q", "-x", "-p", "no:cacheprovider", "-k", selection)
        done = host.run("pytest", tests, *options, folder=scratch_copy, path=[scratch_copy])
    finally:
        source.write_text(code)
    assert done.returncode == 1, done.stdout
    assert "1 failed" in done.stdout
