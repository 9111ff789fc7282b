"""Exporters: a Hugging Face checkpoint becomes a model repository entry that is proven to compute the same.

Used at build time only. Nothing that serves imports this package, and importing it does not import torch.
"""

from exporters.errors import ExportError
from exporters.options import ExportOptions

__all__ = ["ExportError", "ExportOptions"]
