"""Keeps GGUF loading from doing the same work again and again.

transformers parses the file once for the config, once for the tokenizer and once for the weights, and builds the table
of tensor names anew for every module of the model: for a small model that is most of the time to load it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache


@contextmanager
def parsed_once() -> Iterator[None]:
    """While inside, each GGUF file is parsed once and each table of names is built once."""
    import gguf

    originals = {name: getattr(gguf, name) for name in ("GGUFReader", "get_tensor_name_map")}
    for name, original in originals.items():
        setattr(gguf, name, cache(original))
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(gguf, name, original)
