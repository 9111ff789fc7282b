"""The engine's refusals in the API's words: which field of the request a message of the engine is about."""

import re

from services.common.errors import NaiadError, Reason, invalid_field
from services.generation.parameters import Generation

# By the engine's own names and those of its request parameters (docs/contracts.md, section 3).
_FIELDS = {
    "max_tokens": "stopping.max_tokens",
    "request_output_len": "stopping.max_tokens",
    "min_tokens": "stopping.min_tokens",
    "stop_token_ids": "stopping.stop_token_ids",
    "ignore_eos": "stopping.ignore_eos",
    "temperature": "sampling.temperature",
    "top_k": "sampling.top_k",
    "top_p": "sampling.top_p",
    "min_p": "sampling.min_p",
    "repetition_penalty": "sampling.repetition_penalty",
    "presence_penalty": "sampling.presence_penalty",
    "frequency_penalty": "sampling.frequency_penalty",
    "logit_bias": "sampling.logit_bias",
    "num_sequences": "sampling.n",
    "num_return_sequences": "sampling.n",
    "top_log_probs": "response.top_logprobs",
    "priority": "priority",
    "request_priority": "priority",
}
_GUIDE_NAMES = frozenset({"guide", "grammar", "guided_decoding_guide", "guided_decoding_guide_type"})
_NAMED = re.compile(r"^(\w+):? (.+)$", re.DOTALL)


def with_field(error: NaiadError, generation: Generation) -> NaiadError:
    """The error, with the field that it is about if it is INVALID_FIELD and starts with a name that is known."""
    named = _NAMED.match(error.message)
    if error.reason is not Reason.INVALID_FIELD or error.field_violations or named is None:
        return error
    name, description = named.groups()
    field = _FIELDS.get(name)
    if name in _GUIDE_NAMES and generation.guide is not None:
        field = generation.guide.field
    if name == "prompt_token_ids":
        field = generation.prompt.field
    return error if field is None else invalid_field(field, description)
