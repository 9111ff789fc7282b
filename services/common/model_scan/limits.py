"""What an entry may consist of: its files with their largest sizes, operators, and parameters of config.pbtxt."""

from __future__ import annotations

KIB, MIB, GIB = 1024, 1024**2, 1024**3

MANIFEST, CONFIG, SIGNATURE = "naiad.json", "config.pbtxt", "naiad.sig"
VERSION_FOLDER = "1"

MAX_MANIFEST_BYTES = 4 * MIB
MAX_CONFIG_BYTES = 256 * KIB
MAX_SIGNATURE_BYTES = 4 * KIB
MAX_TOKENIZER_BYTES = 128 * MIB
MAX_CHAT_TEMPLATE_BYTES = 256 * KIB
MAX_GRAPH_BYTES = 2 * GIB  # of protobuf itself
MAX_GRAPH_DATA_BYTES = 1024 * GIB

# Key in the manifest's `files` -> (path, largest size in bytes).
LISTED_FILES: dict[str, tuple[str, int]] = {
    "graph": (f"{VERSION_FOLDER}/model.onnx", MAX_GRAPH_BYTES),
    "graph_data": (f"{VERSION_FOLDER}/model.onnx.data", MAX_GRAPH_DATA_BYTES),
    "tokenizer": ("tokenizer.json", MAX_TOKENIZER_BYTES),
    "tokenizer_config": ("tokenizer_config.json", MAX_MANIFEST_BYTES),
    "chat_template": ("chat_template.jinja", MAX_CHAT_TEMPLATE_BYTES),
}
REQUIRED_FILES = ("graph", "tokenizer")
UNLISTED_FILES = (MANIFEST, CONFIG, SIGNATURE)

PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz")
# Protocols 2 to 5, and the zip archive that torch.save writes.
PICKLE_STARTS = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")

# Domain -> its operators, or None for all: those of ONNX compute and nothing else. Microsoft's contain some that read
# files of their own (EPContext) or call into Python, so that only those which the exporters write are allowed.
OPERATORS: dict[str, frozenset[str] | None] = {
    "": None,
    "ai.onnx": None,
    "naiad": frozenset({"Linear", "PackedAttention", "PagedAttention"}),
    "com.microsoft": frozenset({"PagedAttention", "SkipSimplifiedLayerNormalization"}),
}

# The table of docs/contracts.md, section 1; the backend checks values.
PARAMETERS = frozenset(
    {
        "kv_cache_bytes",
        "max_step_tokens",
        "max_active_requests",
        "max_waiting_requests",
        "max_draft_tokens",
        "max_step_stretch",
        "prefix_cache",
        "max_batch_tokens",
        "intra_op_threads",
    }
)
