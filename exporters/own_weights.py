"""In which precision a checkpoint is served when nobody says: its own, with a KV cache that goes with it."""

from __future__ import annotations

from exporters.options import ExportOptions, KvCache, Task, Weights
from exporters.source import Source

# Types of GGUF tensors by the precision that keeps them: blocks of 4 bits whose scales and minimums are halves come out
# unchanged; Q4_K has scales that no half holds, so that rounding to 4 bits once more could cost as much as for floats.
_FOUR_BIT_TYPES = frozenset({"Q4_0", "Q4_1"})
_EIGHT_BIT_TYPES = frozenset({"Q4_K", "Q5_0", "Q5_1", "Q5_K", "Q6_K", "Q8_0", "Q8_1", "Q8_K"})
# The embedding and the output projection have 8 bits in every quantised entry, whatever they have here.
_ENDS = ("token_embd.", "output.")


def chosen_weights(options: ExportOptions, source: Source, task: Task) -> Weights:
    """What `options` ask for; for "auto" the checkpoint's own precision, where it is served as it is."""
    if options.weights != "auto":
        return options.weights
    if task != "generate" or options.cuda or not source.gguf_file:
        return "fp32"
    return _own_weights(source)


def chosen_kv_cache(options: ExportOptions, task: Task, weights: Weights) -> KvCache:
    """What `options` ask for; for "auto" floats only where the products are exact, too.

    Beside rounded products an 8-bit cache costs about a tenth of a percent of perplexity (docs/quality.md).
    """
    if options.kv_cache != "auto":
        return options.kv_cache
    return "int8" if task == "generate" and weights != "fp32" and not options.cuda else "float"


def _own_weights(source: Source) -> Weights:
    """By the type that most numbers of a GGUF file's layers have."""
    import gguf

    numbers: dict[Weights, int] = {"fp32": 0, "int8": 0, "int4": 0}
    for tensor in gguf.GGUFReader(source.files[0]).tensors:
        if len(tensor.shape) == 2 and not str(tensor.name).startswith(_ENDS):
            numbers[_precision(tensor.tensor_type.name)] += int(tensor.n_elements)
    return max(numbers, key=numbers.__getitem__)


def _precision(gguf_type: str) -> Weights:
    if gguf_type in _FOUR_BIT_TYPES:
        return "int4"
    return "int8" if gguf_type in _EIGHT_BIT_TYPES else "fp32"
