"""The share of lines that a corpus reaches, of the code that its target is aimed at."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
FUZZERS = ROOT / "build" / "core-fuzz" / "fuzz"
_LLVM = os.environ.get("LLVM_VERSION", "19")
# Source files and folders whose lines count.
_CPP_SOURCES = {
    "generation_request": ("triton/generation_codec.cc", "triton/request_contents.cc", "triton/parameter_reader.cc",
                           "engine/request_validation.cc"),
    "encoder_request": ("triton/encoder_codec.cc", "triton/request_contents.cc", "triton/parameter_reader.cc",
                        "encoder/encoder_validation.cc"),
    "model_config": ("config",),
    "guide": ("guided",),
}  # fmt: skip
PYTHON_SOURCES = {
    "TokenizationService": "services/tokenization/*,services/common/bounds*.py,services/common/text_models.py",
    "GenerationService": "services/generation/*,services/common/bounds*.py,services/common/text_models.py",
    "ClassificationService": "services/classification/*,services/common/bounds*.py,services/common/text_models.py",
    "chat_template": "services/common/chat_template_worker.py",
}


def cpp_coverage(target: str, folders: Sequence[str]) -> float:
    """Of a target of core/fuzz, from 0 to 1."""
    binary = FUZZERS / f"fuzz_{target}"
    with tempfile.TemporaryDirectory() as scratch:
        raw, merged = f"{scratch}/raw", f"{scratch}/merged"
        subprocess.run(
            [binary, "-runs=0", *folders], env={**os.environ, "LLVM_PROFILE_FILE": raw}, check=True, capture_output=True
        )
        subprocess.run([f"llvm-profdata-{_LLVM}", "merge", "-sparse", raw, "-o", merged], check=True)
        sources = [str(ROOT / "core" / source) for source in _CPP_SOURCES[target]]
        export = subprocess.run(
            [f"llvm-cov-{_LLVM}", "export", "-summary-only", f"-instr-profile={merged}", binary, *sources],
            check=True,
            capture_output=True,
        )
    return float(json.loads(export.stdout)["data"][0]["totals"]["lines"]["percent"]) / 100


def python_coverage(target: str, folders: Sequence[str]) -> float:
    """Of a target of targets.py, from 0 to 1. The whole service counts, of which one method reaches a part."""
    with tempfile.TemporaryDirectory() as scratch:
        data, report = f"--data-file={scratch}/data", f"{scratch}/report.json"
        include = f"--include={PYTHON_SOURCES[target.partition('.')[0]]}"
        run = [sys.executable, "-m", "coverage"]
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'protos'}"}
        replay = [*run, "run", data, include, "-m", "tests.fuzz.replay", target, *folders]
        # One that is a finding ends it; what came before counts.
        subprocess.run(replay, cwd=ROOT, env=environment, check=False, capture_output=True)
        subprocess.run([*run, "json", data, include, "-o", report], cwd=ROOT, check=True, capture_output=True)
        totals = json.loads(Path(report).read_text(encoding="utf-8"))["totals"]
    return float(totals["percent_covered"]) / 100
