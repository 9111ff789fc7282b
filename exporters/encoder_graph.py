"""Traces an encoder into the packed graph of docs/contracts.md section 2."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from exporters import attention
from exporters.architectures import encoder_traits
from exporters.decoder_graph import OPSET
from exporters.errors import ExportError
from exporters.options import EncoderTask


@dataclass(frozen=True)
class EncoderShape:
    """Sizes of the encoder, as in the manifest's `encoder` and `limits`."""

    num_layers: int
    hidden_size: int
    vocabulary_size: int
    context_length_tokens: int
    uses_token_type_ids: bool
    position_offset: int


def encoder_shape(model: Any, trained_length_tokens: int | None) -> EncoderShape:
    """Reads the sizes from a transformers model; texts may be as long as its positions and its training allow."""
    config = model.config
    offset = encoder_traits(config).position_offset
    positions = int(config.max_position_embeddings) - offset
    accepts_types = "token_type_ids" in inspect.signature(model.forward).parameters
    return EncoderShape(
        num_layers=int(config.num_hidden_layers),
        hidden_size=int(config.hidden_size),
        vocabulary_size=int(config.vocab_size),
        context_length_tokens=min(positions, trained_length_tokens or positions),
        uses_token_type_ids=accepts_types and getattr(config, "type_vocab_size", 0) > 1,
        position_offset=offset,
    )


def export_encoder(model: Any, shape: EncoderShape, task: EncoderTask) -> Any:
    """Traces `model` (float32, on the CPU) into an `onnx_ir.Model` with inputs and outputs as in the contract."""
    import torch

    if "position_ids" not in inspect.signature(model.forward).parameters:
        raise ExportError(f"{type(model).__name__} takes no position_ids, so texts cannot be packed")
    attention.register()
    model.set_attn_implementation(attention.PACKED)
    names = ["input_ids", "position_ids", *(["token_type_ids"] if shape.uses_token_type_ids else []), "cu_seqlens"]
    ids, positions = torch.tensor([1, 2, 3, 4, 5]), torch.tensor([0, 1, 2, 0, 1])
    example = (ids, positions, *([torch.zeros_like(ids)] if shape.uses_token_type_ids else []),
               torch.tensor([0, 3, 5], dtype=torch.int32))  # fmt: skip
    tokens = torch.export.Dim("num_tokens", min=2)
    dynamic = tuple({0: tokens} for _ in names[:-1])
    with torch.no_grad():
        program = torch.onnx.export(
            _packed_module(model, shape, task),
            example,
            dynamo=True,
            opset_version=OPSET,
            input_names=names,
            output_names=["last_hidden_state" if task == "embed" else "logits"],
            # One tuple for the *args parameter.
            dynamic_shapes=((*dynamic, {0: torch.export.Dim("num_sequences_plus_1", min=3)}),),
            verbose=False,
            optimize=False,
        )
    return program.model


def _packed_module(model: Any, shape: EncoderShape, task: EncoderTask) -> Any:
    import torch

    parameters = inspect.signature(model.forward).parameters

    class PackedEncoder(torch.nn.Module):  # type: ignore[misc]  # torch is not typed for mypy here
        """Runs the model on one row of packed tokens."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *inputs: Any) -> Any:
            input_ids, position_ids, *types, cu_seqlens = inputs
            extra = {}
            if "token_type_ids" in parameters:
                extra["token_type_ids"] = (types[0] if types else torch.zeros_like(input_ids))[None]
            context = attention.PackedContext(cu_seqlens)
            heads_see = _first_tokens_only(self.model, cu_seqlens) if task == "classify" else _everything()
            with attention.tracing(context), heads_see:
                result = self.model(
                    input_ids=input_ids[None], position_ids=(position_ids + shape.position_offset)[None], **extra
                )
            if context.num_calls != shape.num_layers:
                raise ExportError(
                    f"{type(self.model).__name__} has {shape.num_layers} layers but {context.num_calls} replaceable "
                    "attention calls: its architecture is not supported"
                )
            return output_rows(result, task)

    return PackedEncoder().eval()


def output_rows(result: Any, task: EncoderTask) -> Any:
    """What the contract calls the output, of a transformers result for one row of tokens: a row a token or a text."""
    if task == "embed":
        return result.last_hidden_state[0]
    return result.logits[0] if task == "classify_tokens" else result.logits


@contextmanager
def _everything() -> Iterator[None]:
    yield


@contextmanager
def _first_tokens_only(model: Any, cu_seqlens: Any) -> Iterator[None]:
    """Classification heads look at position 0 of each row: hand them [S, 1, hidden], a row a text."""

    def keep_first_tokens(_module: Any, _arguments: Any, output: Any) -> Any:
        output.last_hidden_state = output.last_hidden_state[0][cu_seqlens[:-1].long()][:, None]
        return output

    handle = _layer_stack(model).register_forward_hook(keep_first_tokens)
    try:
        yield
    finally:
        handle.remove()


def _layer_stack(model: Any) -> Any:
    """The part of the base model that runs all layers: `encoder` in most architectures, `transformer` in DistilBERT."""
    for name in ("encoder", "transformer"):
        stack = getattr(model.base_model, name, None)
        if stack is not None:
            return stack
    raise ExportError(
        f"{type(model).__name__} has no layer stack that naiad knows, so it cannot be served as a classifier"
    )
