"""Checks model repository entries before anything opens them (docs/model-integrity.md).

Needs neither torch nor onnx, reads files piece by piece, and never allocates what a file declares.
"""

from services.common.model_scan.entry import ScannedEntry, scan_entry, scan_repository
from services.common.model_scan.errors import ModelScanError
from services.common.model_scan.reading import read_hashed

__all__ = ["ModelScanError", "ScannedEntry", "read_hashed", "scan_entry", "scan_repository"]
