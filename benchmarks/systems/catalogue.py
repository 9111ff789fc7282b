"""Every system that `make bench` knows: where its Python is, what it needs, how it is loaded."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from exporters.demo import chat_checkpoint
from tests.support.stack import REPOSITORY_ROOT

PEERS_FOLDER = REPOSITORY_ROOT / "build" / "bench-peers"
CHECKPOINT_FOLDER = PEERS_FOLDER / "checkpoint"
KV_CACHE_BYTES = 1 << 30


@dataclass(frozen=True)
class System:
    """One system; `requirements` are of its own virtual environment, empty if naiad's will do."""

    name: str
    adapter: str
    requirements: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    needs: Path | None = None  # What `installer` makes for it besides the environment.
    installer: str = "make bench-peers"

    @property
    def environment_folder(self) -> Path:
        """Its virtual environment, shared by systems with the same requirements."""
        return PEERS_FOLDER / self.adapter

    @property
    def python(self) -> Path:
        """The interpreter that its worker runs in."""
        return self.environment_folder / "bin" / "python" if self.requirements else Path(sys.executable)

    def missing(self) -> str:
        """What is not installed, for the table; empty if all is there."""
        for path in (self.python, self.needs):
            if path is not None and not path.exists():
                return f"not installed: {os.path.relpath(path, REPOSITORY_ROOT)} is missing; run: {self.installer}"
        return ""

    def command(self) -> list[str]:
        """Starts its worker."""
        return [str(self.python), "-m", "benchmarks.systems.worker", f"benchmarks.systems.adapters.{self.adapter}"]

    def environment(self, threads: int) -> dict[str, str]:
        """Variables of its worker."""
        paths = [REPOSITORY_ROOT] if self.requirements else [REPOSITORY_ROOT, REPOSITORY_ROOT / "protos"]
        return {
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "OMP_NUM_THREADS": str(threads),
            "HF_HUB_OFFLINE": "1",
        }


def _built_llama() -> Path:
    return PEERS_FOLDER / "llama.cpp" / "build" / "bin" / "llama-server"


def naiad_systems(decoder: str) -> list[System]:
    """naiad through its services, and its engine without them."""
    options = {"decoder": decoder, "kv_cache_bytes": KV_CACHE_BYTES}
    return [
        System("naiad", "naiad", options={**options, "path": "service"}),
        System("naiad engine", "naiad", options={**options, "path": "engine"}),
    ]


def peers() -> list[System]:
    """All peers, in the order of the tables."""
    gguf = str(chat_checkpoint())
    int4, int8 = PEERS_FOLDER / "int4-onnx", PEERS_FOLDER / "int8-ct2"
    return [
        System(
            "llama.cpp",
            "llama_cpp",
            options={"gguf": gguf, "binary": str(_built_llama())},
            needs=_built_llama(),
        ),
        System("xllamacpp", "llama_cpp", ("xllamacpp==2026.10.11549",), options={"gguf": gguf}),
        System(
            "OpenVINO GenAI",
            "openvino_genai",
            ("openvino==2026.4.1", "openvino-tokenizers==2026.4.1.0", "openvino-genai==2026.4.1.0"),
            options={"gguf": gguf},
        ),
        System(
            "onnxruntime-genai",
            "onnxruntime_genai",
            ("onnxruntime==1.32.0", "onnxruntime-genai==0.18.0"),
            options={"folder": str(int4)},
            needs=int4,
        ),
        System("CTranslate2", "ctranslate2", ("ctranslate2==4.8.5",), options={"folder": str(int8)}, needs=int8),
        System("transformers", "transformers"),
    ]
