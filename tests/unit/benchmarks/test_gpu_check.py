"""The check for machines with a GPU, on one without."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import gpu_check


def test_without_a_cuda_provider_it_says_so_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_check, "cuda_available", lambda: False)
    output = tmp_path / "figures.json"
    assert gpu_check.main(["--output", str(output)]) == 2
    assert capsys.readouterr().err.startswith("check-gpu: ONNX Runtime has no CUDA provider here")
    assert not output.exists()


def test_the_shortfall_is_none_for_the_references_own_tokens_and_else_the_worst_one() -> None:
    expected = np.array([[0.0, 10.0, 5.0], [4.0, 0.0, 3.0]], np.float32)
    assert gpu_check.shortfall([1, 0], expected) == 0
    assert gpu_check.shortfall([2, 2], expected) == pytest.approx(0.5)
