"""Traces RMSNorm layers and rotary embeddings as one ONNX node each instead of ten.

Names only say where to look: a layer is replaced when probing it with numbers shows that it computes the standard
formula, so an architecture with a variant of its own keeps its own nodes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

_ROTARY_FUNCTION = "apply_rotary_pos_emb"
_PROBE_TOLERANCE = 1e-6


@contextmanager
def fused(model: Any) -> Iterator[None]:
    """While inside, tracing `model` gives RMSNormalization and RotaryEmbedding nodes (opset 23)."""
    norms = [(layer, gain) for layer in model.modules() if (gain := _rms_norm_gain(layer)) is not None]
    for layer, gain in norms:
        layer.forward = _rms_norm_forward(gain, _epsilon(layer))
    module = _rotary_module(model)
    original = getattr(module, _ROTARY_FUNCTION) if module else None
    if module:
        setattr(module, _ROTARY_FUNCTION, _rotary)
    try:
        yield
    finally:
        for layer, _ in norms:
            del layer.forward
        if module:
            setattr(module, _ROTARY_FUNCTION, original)


def _epsilon(layer: Any) -> float:
    return float(getattr(layer, "variance_epsilon", getattr(layer, "eps", 0.0)))


def _rms_norm_gain(layer: Any) -> Any | None:
    """The factor that `layer` multiplies the normalised values with, or None if it is no RMSNorm."""
    import torch

    weight = getattr(layer, "weight", None)
    if not type(layer).__name__.endswith("RMSNorm") or weight is None or weight.dim() != 1 or _epsilon(layer) <= 0:
        return None
    probe = torch.randn(1, 3, weight.shape[0], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        computed = layer(probe)
        normalised = probe * torch.rsqrt(probe.pow(2).mean(-1, keepdim=True) + _epsilon(layer))
        for gain in (weight.detach(), 1.0 + weight.detach()):
            if torch.allclose(computed, normalised * gain, rtol=_PROBE_TOLERANCE, atol=_PROBE_TOLERANCE):
                return gain
    return None


def _rms_norm_forward(gain: Any, epsilon: float) -> Any:
    import torch

    def forward(hidden_states: Any) -> Any:
        return torch.onnx.ops.symbolic(
            "RMSNormalization",
            (hidden_states, gain),
            {"axis": -1, "epsilon": epsilon},
            dtype=hidden_states.dtype,
            shape=hidden_states.shape,
            version=23,
        )

    return forward


def _rotary_module(model: Any) -> ModuleType | None:
    """The module whose rotary function rotates halves the common way, else None."""
    import torch

    module = sys.modules[type(model).__module__]
    function = getattr(module, _ROTARY_FUNCTION, None)
    if function is None:
        return None
    random = torch.Generator().manual_seed(0)
    query, key = (torch.randn(1, heads, 3, 8, generator=random) for heads in (2, 1))
    angles = torch.randn(1, 3, 4, generator=random)
    cos, sin = (torch.cat((part, part), dim=-1) for part in (angles.cos(), angles.sin()))
    try:
        computed = function(query, key, cos, sin)
    except (TypeError, RuntimeError, ValueError):
        return None  # another signature, so another formula
    expected = (_rotate(query, cos, sin), _rotate(key, cos, sin))
    same = all(
        torch.allclose(got, want, rtol=_PROBE_TOLERANCE, atol=_PROBE_TOLERANCE)
        for got, want in zip(computed, expected, strict=True)
    )
    return module if same else None


def _rotate(heads_first: Any, cos: Any, sin: Any) -> Any:
    import torch

    first, second = heads_first.chunk(2, dim=-1)
    return heads_first * cos.unsqueeze(1) + torch.cat((-second, first), dim=-1) * sin.unsqueeze(1)


def _rotary(query: Any, key: Any, cos: Any, sin: Any, unsqueeze_dim: int = 1) -> tuple[Any, Any]:
    if unsqueeze_dim != 1:
        raise ValueError("rotary embedding over another layout than [batch, heads, tokens, head]")
    half = cos.shape[-1] // 2
    return _rotary_node(query, cos[..., :half], sin[..., :half]), _rotary_node(key, cos[..., :half], sin[..., :half])


def _rotary_node(heads_first: Any, cos: Any, sin: Any) -> Any:
    """The node works on [1, T, heads * head], as it was before the heads were split: transposes around cancel out."""
    import torch

    _, heads, _, head = heads_first.shape
    packed = heads_first.transpose(1, 2).reshape(1, -1, heads * head)
    rotated = torch.onnx.ops.symbolic(
        "RotaryEmbedding",
        (packed, cos, sin),
        {"num_heads": int(heads), "rotary_embedding_dim": 2 * int(cos.shape[-1])},
        dtype=packed.dtype,
        shape=packed.shape,
        version=23,
    )
    return rotated.reshape(1, -1, heads, head).transpose(1, 2)
