"""`naiad export`: runs the exporters, which live in an environment of their own."""

import argparse
import importlib

from services.cli import exit_codes

EXPORT_PACKAGES = frozenset(
    {"torch", "transformers", "onnx", "onnxscript", "safetensors", "gguf", "accelerate", "sentencepiece"}
)


def run(arguments: argparse.Namespace) -> int:
    """Exports one checkpoint."""
    try:
        exit_code: int = importlib.import_module("exporters.cli").run(arguments)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in EXPORT_PACKAGES:
            raise
        message = (
            f"the package {error.name} is missing: install what exporting needs with `pip install 'naiad[export]'`"
        )
        raise exit_codes.CommandError(message) from error
    return exit_code
