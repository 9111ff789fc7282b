"""Exceptions to the generic export, by `model_type`. An architecture that follows the rule has no line here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from exporters.architectures import roberta


@dataclass(frozen=True)
class EncoderTraits:
    """What an encoder wants other than the rule.

    position_offset: added to positions that count from 0, inside the graph.
    """

    position_offset: int = 0


def encoder_traits(config: Any) -> EncoderTraits:
    """The traits of the architecture that `config` names."""
    if config.model_type in roberta.MODEL_TYPES:
        return EncoderTraits(position_offset=roberta.position_offset(config))
    return EncoderTraits()
