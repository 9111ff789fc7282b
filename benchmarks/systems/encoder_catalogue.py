"""Every system that `make bench-encoder` knows; all of them serve the checkpoint of `embed`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.systems.catalogue import PEERS_FOLDER, System
from exporters.demo import embed_checkpoint
from tests.support.stack import REPOSITORY_ROOT

BENCH_MODELS = REPOSITORY_ROOT / "build" / "bench-models"
SERVED_MODELS = REPOSITORY_ROOT / "model_repository"
INT8_ENTRY = "embed_int8"
DEFAULT_ENTRIES = ("embed", INT8_ENTRY)
ONNX_FOLDER = PEERS_FOLDER / "encoder-onnx"
CT2_FOLDER = PEERS_FOLDER / "encoder-ct2"
_LABELS = {"embed": "naiad fp32", INT8_ENTRY: "naiad int8"}


@dataclass(frozen=True)
class EncoderSystem(System):
    """One system; `conversion` is what makes its `needs`, see install.py."""

    conversion: str = ""
    installer: str = "make bench-encoder-peers"


def naiad_encoders(entries: tuple[str, ...]) -> list[EncoderSystem]:
    """Each entry through the service, and its engine without it."""
    return [
        EncoderSystem(
            _LABELS.get(entry, f"naiad {entry}") + suffix,
            "encoder_naiad",
            options={"entry": str(_entry(entry)), "path": path},
            needs=_entry(entry) / "naiad.json",
            conversion="naiad_int8" if entry == INT8_ENTRY else "",
        )
        for entry in entries
        for suffix, path in (("", "service"), (" engine", "engine"))
    ]


def _entry(name: str) -> Path:
    served = SERVED_MODELS / name
    return BENCH_MODELS / name if name == INT8_ENTRY and not served.exists() else served


def encoder_peers() -> list[EncoderSystem]:
    """All peers, in the order of the tables."""
    checkpoint = str(embed_checkpoint())
    tokenizers = "tokenizers==0.23.3"
    onnxruntime, openvino, ctranslate2 = (
        (package, tokenizers) for package in ("onnxruntime==1.32.0", "openvino==2026.4.1", "ctranslate2==4.8.5")
    )
    plain, fused, int8 = (ONNX_FOLDER / f"{name}.onnx" for name in ("plain", "fused", "int8"))
    return [
        EncoderSystem(
            "sentence-transformers",
            "encoder_sentence_transformers",
            ("sentence-transformers==6.2.0", "torch==2.13.0", "transformers==5.23.0"),
            options={"checkpoint": checkpoint},
        ),
        *(
            EncoderSystem(
                f"ONNX Runtime {name}",
                "encoder_onnxruntime",
                onnxruntime,
                options={"checkpoint": checkpoint, "graph": str(graph), "weights": weights},
                needs=graph,
                conversion="encoder_onnx",
            )
            for name, graph, weights in (
                ("fp32", fused, "fp32"),
                ("int8", int8, "int8 a channel, 8-bit dynamic activations"),
            )
        ),
        *(
            EncoderSystem(
                f"OpenVINO {precision}",
                "encoder_openvino",
                openvino,
                options={"checkpoint": checkpoint, "graph": str(plain), "precision": precision},
                needs=plain,
                conversion="encoder_onnx",
            )
            for precision in ("f32", "bf16")
        ),
        *(
            EncoderSystem(
                f"CTranslate2 {name}",
                "encoder_ctranslate2",
                ctranslate2,
                options={"checkpoint": checkpoint, "folder": str(CT2_FOLDER), "compute_type": compute_type},
                needs=CT2_FOLDER,
                conversion="encoder_ct2",
            )
            for name, compute_type in (("fp32", "float32"), ("int8", "int8_float32"))
        ),
    ]
