"""Traces a causal language model into the packed decoder graph of docs/contracts.md section 2."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from exporters import attention
from exporters.errors import ExportError
from exporters.fused_layers import fused
from exporters.options import KvCache

BLOCK_TOKENS = 16
OPSET = 23
_ROW_SCALE_BYTES = 4
_INPUTS = ("input_ids", "position_ids", "cu_seqlens", "past_lens", "block_table", "logit_rows")


@dataclass(frozen=True)
class DecoderShape:
    """Sizes of the decoder, as in the manifest's `decoder` and `limits`."""

    num_layers: int
    num_kv_heads: int
    head_size: int
    vocabulary_size: int
    context_length_tokens: int
    kv_block_tokens: int = BLOCK_TOKENS
    kv_cache_type: KvCache = "float"

    @property
    def cache_row_elements(self) -> int:
        """Elements of one key or value in the cache: floats, or the bytes of an 8-bit row with its scale."""
        return self.head_size + _ROW_SCALE_BYTES if self.kv_cache_type == "int8" else self.head_size


def decoder_shape(config: Any) -> DecoderShape:
    """Reads the sizes from a transformers config."""
    heads = int(config.num_attention_heads)
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    head_size = getattr(config, "head_dim", None) or config.hidden_size // heads
    return DecoderShape(
        num_layers=int(config.num_hidden_layers),
        num_kv_heads=int(kv_heads),
        head_size=int(head_size),
        vocabulary_size=int(config.vocab_size),
        context_length_tokens=int(config.max_position_embeddings),
    )


def export_decoder(model: Any, shape: DecoderShape) -> Any:
    """Traces `model` (float32, on the CPU) into an `onnx_ir.Model` with inputs and outputs as in the contract."""
    import torch

    if "logits_to_keep" not in inspect.signature(model.forward).parameters:
        raise ExportError(f"{type(model).__name__} cannot compute the logits of chosen rows only (no logits_to_keep)")
    attention.register()
    model.set_attn_implementation(attention.PAGED)
    names = [f"{kind}_cache.{layer}" for kind in ("key", "value") for layer in range(shape.num_layers)]
    outputs = [f"{kind}_cache_out.{layer}" for kind in ("key", "value") for layer in range(shape.num_layers)]
    with torch.no_grad(), fused(model):
        program = torch.onnx.export(
            _packed_module(model, shape.num_layers),
            _example(shape),
            dynamo=True,
            opset_version=OPSET,
            input_names=[*_INPUTS, *names],
            output_names=["logits", *outputs],
            dynamic_shapes=_dynamic_shapes(shape.num_layers),
            verbose=False,
            optimize=False,
        )
    return program.model


def _packed_module(model: Any, num_layers: int) -> Any:
    import torch

    class PackedDecoder(torch.nn.Module):  # type: ignore[misc]  # torch is not typed for mypy here
        """Runs the model on one row of packed tokens, with the caches handed to its attention calls."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *inputs: Any) -> tuple[Any, ...]:
            input_ids, position_ids, cu_seqlens, past_lens, block_table, logit_rows, key_caches, value_caches = inputs
            context = attention.PagedContext(cu_seqlens, past_lens, block_table, list(key_caches), list(value_caches))
            with attention.tracing(context):
                logits = self.model(
                    input_ids=input_ids[None],
                    position_ids=position_ids[None],
                    use_cache=False,
                    logits_to_keep=logit_rows,
                ).logits[0]
            if sorted(context.key_caches_out) != list(range(num_layers)):
                raise ExportError(
                    f"{type(self.model).__name__} has {num_layers} layers but {len(context.key_caches_out)} attention "
                    "calls that can be replaced: its architecture is not supported"
                )
            layers = range(num_layers)
            return (
                logits,
                *(context.key_caches_out[n] for n in layers),
                *(context.value_caches_out[n] for n in layers),
            )

    return PackedDecoder().eval()


def _example(shape: DecoderShape) -> tuple[Any, ...]:
    import torch

    def cache() -> list[Any]:
        size = (6, shape.num_kv_heads, shape.kv_block_tokens, shape.head_size)
        return [torch.zeros(size) for _ in range(shape.num_layers)]

    return (
        torch.tensor([1, 2, 3, 4, 5]),
        torch.tensor([0, 1, 2, 0, 1]),
        torch.tensor([0, 3, 5], dtype=torch.int32),
        torch.tensor([0, 0], dtype=torch.int32),
        torch.tensor([[0, -1, -1], [1, -1, -1]], dtype=torch.int32),
        torch.tensor([2, 3, 4, 0]),
        cache(),
        cache(),
    )


def _dynamic_shapes(num_layers: int) -> tuple[Any, ...]:
    from torch.export import Dim

    tokens, blocks = Dim("num_tokens", min=2), Dim("num_blocks", min=2)
    sequences = Dim("num_sequences", min=2)
    caches = [{0: blocks} for _ in range(num_layers)]
    # One tuple for the *inputs parameter.
    return ((
        {0: tokens}, {0: tokens}, {0: Dim("num_sequences_plus_1", min=2)}, {0: sequences},
        {0: sequences, 1: Dim("block_columns", min=2)}, {0: Dim("num_logit_rows", min=2)}, caches, list(caches),
    ),)  # fmt: skip
