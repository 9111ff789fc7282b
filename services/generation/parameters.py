"""What a generation is asked to do, as plain data, and how the engine is told; free of gRPC."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from services.common.chat_template import Message
from services.common.infer_reply import Array, ParameterValue, signed_bits

DEFAULT_MAX_TOKENS = 256
# What the engine takes for a parameter that a request does not have (docs/contracts.md, section 3): each that it has is
# written, sent, and read twice.
_ENGINE_DEFAULTS: Mapping[str, ParameterValue] = {
    "min_tokens": 0,
    "temperature": 0.0,
    "runtime_top_k": 0,
    "runtime_top_p": 1.0,
    "min_p": 0.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "repetition_penalty": 1.0,
    "num_return_sequences": 1,
    "ignore_eos": False,
    "return_log_probs": False,
    "top_log_probs": 0,
    "request_priority": 0,
    "use_prefix_cache": True,
}


@dataclass(frozen=True)
class Prompt:
    """Exactly one of the three is set; `field` is its name in the request."""

    field: str
    text: str | None = None
    token_ids: tuple[int, ...] | None = None
    messages: tuple[Message, ...] | None = None
    add_generation_prompt: bool = True


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen; see SamplingOptions of the API for units and ranges."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    n: int = 1
    best_of: int = 1


@dataclass(frozen=True)
class Stopping:
    """When generation ends; `max_tokens` None means the default."""

    max_tokens: int | None = None
    min_tokens: int = 0
    stop_texts: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False


@dataclass(frozen=True)
class Wanted:
    """What the answer carries beside text."""

    logprobs: bool = False
    top_logprobs: int = 0
    echo: bool = False
    token_ids: bool = False


class GuideKind(StrEnum):
    """What a guide is; the values are the engine's words."""

    JSON_SCHEMA = "json_schema"
    REGEX = "regex"
    JSON_OBJECT = "json"


@dataclass(frozen=True)
class Guide:
    """What the text must be. `text` is empty for JSON_OBJECT; `field` is the guide's name in the request."""

    kind: GuideKind
    text: str
    field: str


@dataclass(frozen=True)
class Scheduling:
    """How the engine treats the request; see the API for ranges."""

    priority: int = 0
    use_prefix_cache: bool = True


@dataclass(frozen=True)
class Generation:
    """One validated request."""

    model: str
    prompt: Prompt
    sampling: Sampling
    stopping: Stopping
    wanted: Wanted
    scheduling: Scheduling = Scheduling()
    guide: Guide | None = None


def engine_inputs(prompt_ids: Array, generation: Generation) -> dict[str, Array]:
    """Input tensors of the engine's request."""
    inputs = {"input_ids": prompt_ids}
    if generation.stopping.stop_token_ids:
        inputs["stop_token_ids"] = np.array(generation.stopping.stop_token_ids, np.int32)
    bias = generation.sampling.logit_bias
    if bias:
        inputs["logit_bias_ids"] = np.fromiter(bias.keys(), np.int32, len(bias))
        inputs["logit_bias_values"] = np.fromiter(bias.values(), np.float32, len(bias))
    return inputs


def engine_parameters(generation: Generation, max_tokens: int, seed: int) -> dict[str, ParameterValue]:
    """Parameters of the engine's request (docs/contracts.md, section 3), but for those that are the engine's defaults.

    `seed` is unsigned, 64 bits.
    """
    sampling, stopping, wanted = generation.sampling, generation.stopping, generation.wanted
    asked: dict[str, ParameterValue] = {
        "request_output_len": max_tokens,
        "min_tokens": stopping.min_tokens,
        "temperature": sampling.temperature,
        "runtime_top_k": sampling.top_k,
        "runtime_top_p": sampling.top_p,
        "min_p": sampling.min_p,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "repetition_penalty": sampling.repetition_penalty,
        "num_return_sequences": sampling.best_of,
        "ignore_eos": stopping.ignore_eos,
        "return_log_probs": wanted.logprobs or sampling.best_of > sampling.n,
        "top_log_probs": wanted.top_logprobs,
        "request_priority": generation.scheduling.priority,
        "use_prefix_cache": generation.scheduling.use_prefix_cache,
    }
    parameters = {name: value for name, value in asked.items() if value != _ENGINE_DEFAULTS.get(name)}
    if sampling.temperature > 0:
        parameters["seed"] = signed_bits(seed)
    if generation.guide is not None:
        parameters["guided_decoding_guide_type"] = generation.guide.kind.value
        if generation.guide.text:
            parameters["guided_decoding_guide"] = generation.guide.text
    return parameters
