"""Puts naiad's attention operators in the place of transformers' attention while a model is traced.

Models that go through `transformers.AttentionInterface` call the two functions below; each adds one ONNX node and
counts itself. A model that does not go through the interface leaves the count short, and is refused. No mask function
is registered under these names, so transformers builds no mask at all: the operators know which tokens see which from
`cu_seqlens` and `past_lens`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from exporters.errors import ExportError

PAGED = "naiad_paged"
PACKED = "naiad_packed"

# Keyword arguments of transformers' attention calls that do not change what attention computes here: bookkeeping of the
# library, and lengths for kernels that pack in their own way.
_HARMLESS = frozenset({
    "position_ids", "use_cache", "output_attentions", "output_hidden_states", "return_dict", "cache_position",
    "num_items_in_batch", "layer_idx", "position_embeddings", "past_key_values", "use_kernel", "is_causal",
    "block_sequence_ids",
})  # fmt: skip


@dataclass
class PagedContext:
    """Tensors of the step being traced, and what its attention calls left behind."""

    cu_seqlens: Any
    past_lens: Any
    block_table: Any
    key_caches: list[Any]
    value_caches: list[Any]
    key_caches_out: dict[int, Any] = field(default_factory=dict)
    value_caches_out: dict[int, Any] = field(default_factory=dict)


@dataclass
class PackedContext:
    """Lengths of the texts being traced, and how many attention calls there were."""

    cu_seqlens: Any
    num_calls: int = 0


_context: list[PagedContext | PackedContext] = []


@contextmanager
def tracing(context: PagedContext | PackedContext) -> Iterator[None]:
    """Makes `context` the one that attention calls write into."""
    _context.append(context)
    try:
        yield
    finally:
        _context.pop()


def register() -> None:
    """Makes the two attention functions known to transformers; harmless when done twice."""
    from transformers import AttentionInterface

    AttentionInterface.register(PAGED, _paged_attention)
    AttentionInterface.register(PACKED, _packed_attention)


def _refuse_unknown(module: Any, options: dict[str, Any]) -> None:
    unknown = sorted(name for name, value in options.items() if value is not None and name not in _HARMLESS)
    if unknown:
        raise ExportError(
            f"{type(module).__name__} passes {', '.join(unknown)} to its attention, which naiad's does not know"
        )


def _flatten(heads_first: Any) -> Any:
    """[1, heads, T, head] -> [T, heads * head]."""
    _, heads, _, head = heads_first.shape
    # A literal -1, so that the graph need not compute the number of tokens again at each call.
    return heads_first.transpose(1, 2).reshape(-1, heads * head)


def _paged_attention(  # noqa: PLR0913, PLR0917 - transformers sets the signature
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    sliding_window: int | None = None,
    **options: Any,
) -> tuple[Any, None]:
    import torch

    del attention_mask, dropout
    context = _context[-1]
    if not isinstance(context, PagedContext):
        raise ExportError(f"{type(module).__name__} is not an encoder's attention")
    _refuse_unknown(module, options)
    if options.get("is_causal") is False or getattr(module, "is_causal", True) is False:
        raise ExportError(f"{type(module).__name__} is not causal, which a decoder must be")
    layer = getattr(module, "layer_idx", None)
    if layer is None or layer in context.key_caches_out or not 0 <= layer < len(context.key_caches):
        raise ExportError(f"{type(module).__name__} shares or lacks a layer number; naiad keeps one cache a layer")
    if value.shape[-1] != query.shape[-1] or key.shape[-1] != query.shape[-1]:
        raise ExportError(f"{type(module).__name__} has keys and values of different sizes")

    _, num_heads, tokens, head_size = query.shape
    key_cache, value_cache = context.key_caches[layer], context.value_caches[layer]
    output, key_out, value_out = torch.onnx.ops.symbolic_multi_out(
        "naiad::PagedAttention",
        (
            _flatten(query), _flatten(key), _flatten(value), key_cache, value_cache,
            context.cu_seqlens, context.past_lens, context.block_table,
        ),
        {
            "num_heads": int(num_heads),
            "kv_num_heads": int(key.shape[1]),
            "scale": float(head_size**-0.5 if scaling is None else scaling),
            "softcap": float(softcap or 0.0),
            "local_window_size": int(sliding_window) if sliding_window else -1,
        },
        dtypes=(query.dtype, key_cache.dtype, value_cache.dtype),
        shapes=((tokens, num_heads * head_size), key_cache.shape, value_cache.shape),
        version=1,
    )  # fmt: skip
    context.key_caches_out[layer] = key_out
    context.value_caches_out[layer] = value_out
    return output.reshape(1, -1, num_heads, head_size), None


def _packed_attention(  # noqa: PLR0913, PLR0917 - transformers sets the signature
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **options: Any,
) -> tuple[Any, None]:
    import torch

    del attention_mask, dropout
    context = _context[-1]
    if not isinstance(context, PackedContext):
        raise ExportError(f"{type(module).__name__} is not a decoder's attention")
    _refuse_unknown(module, options)
    if options.get("is_causal") is True or getattr(module, "is_causal", False) is True:
        raise ExportError(f"{type(module).__name__} is causal, which an encoder must not be")

    _, num_heads, tokens, head_size = query.shape
    output = torch.onnx.ops.symbolic(
        "naiad::PackedAttention",
        (_flatten(query), _flatten(key), _flatten(value), context.cu_seqlens),
        {
            "num_heads": int(num_heads),
            "kv_num_heads": int(key.shape[1]),
            "scale": float(head_size**-0.5 if scaling is None else scaling),
            # transformers counts the whole window, the operator each side.
            "local_window_size": int(sliding_window) // 2 if sliding_window else -1,
        },
        dtype=query.dtype,
        shape=(tokens, num_heads * head_size),
        version=1,
    )
    context.num_calls += 1
    return output.reshape(1, -1, num_heads, head_size), None
