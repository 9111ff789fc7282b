"""RoBERTa and its relatives number positions from the padding id + 1, a habit of fairseq."""

from __future__ import annotations

from typing import Any

MODEL_TYPES = frozenset(
    {"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "xmod", "data2vec-text", "longformer"}
)


def position_offset(config: Any) -> int:
    """What to add to a position that counts from 0."""
    return int(config.pad_token_id) + 1
