"""The most that every field of every request may hold: the one table. `bounds_check` applies it to messages.

Sizes are checked before anything else looks at a message. Ranges of numbers are here too, and are checked where the
number is read, together with what depends on the model.
"""

from collections.abc import Mapping
from dataclasses import dataclass

MEBIBYTE = 1024 * 1024
INT32_MAX = (1 << 31) - 1


@dataclass(frozen=True)
class Range:
    """Range of a number, bounds included unless `above` says that the lower one is not."""

    low: float
    high: float
    above: bool = False

    def allows(self, value: float) -> bool:
        """Whether `value` is in the range; NaN is not."""
        return (self.low < value if self.above else self.low <= value) and value <= self.high

    def __str__(self) -> str:
        low, high = f"{self.low:.10g}", f"{self.high:.10g}"
        return f"over {low}, at most {high}" if self.above else f"from {low} to {high}"


@dataclass(frozen=True)
class Bound:
    """What one field may hold. What is None bounds nothing beyond the field's type.

    `max_items` is for lists and maps, `max_bytes` (of UTF-8) for a text or each text of a list, `values` for a number
    or each value of a list or map. `of_item`: a text that is too large is the fault of one item of a batch, which the
    service answers alone; the others are served.
    """

    max_items: int | None = None
    max_bytes: int | None = None
    values: Range | None = None
    of_item: bool = False


# Any value of the type: flags, enumerations (the service refuses values that it does not know), seeds.
ANY = Bound()
# A message, or a list of them, whose own fields are bounded by their own entry.
MESSAGE = Bound()

MAX_TEXT_BYTES = MEBIBYTE
MAX_TEXTS = 10_000
MAX_LABEL_BYTES = 1024
MAX_ID_BYTES = 256
MODEL = Bound(max_bytes=256)
TEXT = Bound(max_bytes=MAX_TEXT_BYTES)
TEXT_OF_ITEM = Bound(max_bytes=MAX_TEXT_BYTES, of_item=True)
TEXTS = Bound(max_items=MAX_TEXTS, max_bytes=MAX_TEXT_BYTES, of_item=True)
LABEL = Bound(max_bytes=MAX_LABEL_BYTES)
GUIDE = Bound(max_bytes=65_536)
MESSAGES = Bound(max_items=1_000)
TOP_LOGPROBS = Bound(values=Range(0, 20))
COMPLETIONS = Bound(values=Range(1, 16))
TOP_K = Bound(values=Range(1, INT32_MAX))
COUNT = Bound(values=Range(0, INT32_MAX))
OVERLAP = Bound(values=Range(0, INT32_MAX))  # the model's limit bounds it closer

_GENERATE: Mapping[str, Bound] = {
    "model": MODEL,
    "text": TEXT,
    "token_ids": MESSAGE,
    "chat": MESSAGE,
    "sampling": MESSAGE,
    "stopping": MESSAGE,
    "response": MESSAGE,
    "priority": Bound(values=Range(-100, 100)),
    "use_prefix_cache": ANY,
    "guide": MESSAGE,
}

# Message -> field -> bound. Every field of every message that a request is made of must be here.
BOUNDS: Mapping[str, Mapping[str, Bound]] = {
    "TokenIds": {"ids": Bound(max_items=MEBIBYTE)},
    "ChatMessage": {"role": Bound(max_bytes=64), "content": TEXT},
    "Chat": {"messages": MESSAGES, "add_generation_prompt": ANY},
    "TokenizeRequest": {
        "model": MODEL,
        "texts": TEXTS,
        "add_special_tokens": ANY,
        "max_length": Bound(values=Range(1, INT32_MAX)),
        "return_tokens": ANY,
        "return_offsets": ANY,
    },
    "DetokenizeRequest": {"model": MODEL, "sequences": Bound(max_items=MAX_TEXTS), "skip_special_tokens": ANY},
    "CountTokensRequest": {
        "model": MODEL,
        "texts": Bound(max_items=MAX_TEXTS, max_bytes=MAX_TEXT_BYTES),
        "add_special_tokens": ANY,
    },
    "ApplyChatTemplateRequest": {"model": MODEL, "messages": MESSAGES, "add_generation_prompt": ANY},
    "TokenizationServiceListModelsRequest": {},
    "SamplingOptions": {
        "temperature": Bound(values=Range(0, 100)),
        "top_p": Bound(values=Range(0, 1, above=True)),
        "top_k": COUNT,
        "min_p": Bound(values=Range(0, 1)),
        "repetition_penalty": Bound(values=Range(0, 10, above=True)),
        "presence_penalty": Bound(values=Range(-2, 2)),
        "frequency_penalty": Bound(values=Range(-2, 2)),
        "logit_bias": Bound(max_items=1024, values=Range(-100, 100)),
        "seed": ANY,
        "n": COMPLETIONS,
        "best_of": COMPLETIONS,
    },
    "StoppingOptions": {
        "max_tokens": COUNT,
        "min_tokens": COUNT,
        "stop": Bound(max_items=16, max_bytes=256),
        "stop_token_ids": Bound(max_items=64),
        "ignore_eos": ANY,
    },
    "ResponseOptions": {"logprobs": ANY, "top_logprobs": TOP_LOGPROBS, "echo": ANY, "return_token_ids": ANY},
    "Guide": {"json_schema": GUIDE, "regex": GUIDE, "json_object": ANY},
    "GenerateRequest": _GENERATE,
    "GenerateStreamRequest": _GENERATE,
    "ScoreRequest": {"model": MODEL, "text": TEXT, "token_ids": MESSAGE, "top_logprobs": TOP_LOGPROBS},
    "GenerationServiceListModelsRequest": {},
    "TextPair": {"first": TEXT_OF_ITEM, "second": TEXT_OF_ITEM},
    "ClassifyRequest": {
        "model": MODEL,
        "texts": TEXTS,
        "pairs": Bound(max_items=MAX_TEXTS),
        "top_k": TOP_K,
        "activation": ANY,
        "truncate": ANY,
        "window_overlap_tokens": OVERLAP,
    },
    "ClassifyStreamOptions": {
        "model": MODEL,
        "top_k": TOP_K,
        "activation": ANY,
        "truncate": ANY,
        "window_overlap_tokens": OVERLAP,
    },
    "ClassifyStreamItem": {
        "id": Bound(max_bytes=MAX_ID_BYTES, of_item=True),
        "text": TEXT_OF_ITEM,
        "pair": MESSAGE,
    },
    "ClassifyStreamRequest": {"options": MESSAGE, "items": Bound(max_items=MAX_TEXTS)},
    "ClassifyTokensRequest": {
        "model": MODEL,
        "texts": TEXTS,
        "merge": ANY,
        "min_score": Bound(values=Range(0, 1)),
        "include_outside": ANY,
        "truncate": ANY,
        "window_overlap_tokens": OVERLAP,
    },
    "ClassifyZeroShotRequest": {
        "model": MODEL,
        "texts": TEXTS,
        "labels": Bound(max_items=100, max_bytes=MAX_LABEL_BYTES),
        "hypothesis_template": LABEL,
        "multi_label": ANY,
        "truncate": ANY,
    },
    "ExplainRequest": {
        "model": MODEL,
        "text": TEXT,
        "label": LABEL,
        "method": ANY,
        "max_samples": Bound(values=Range(16, 10_000)),
        "seed": ANY,
        "truncate": ANY,
    },
    "RerankRequest": {
        "model": MODEL,
        "query": TEXT,
        "documents": TEXTS,
        "top_k": TOP_K,
        "return_documents": ANY,
        "truncate": ANY,
    },
    "EmbedRequest": {
        "model": MODEL,
        "texts": TEXTS,
        "pooling": ANY,
        "normalize": ANY,
        "dimensions": Bound(values=Range(1, INT32_MAX)),  # the model's hidden size bounds it closer
        "truncate": ANY,
    },
    "ClassificationServiceListModelsRequest": {},
}


def range_of(message: str, field: str) -> Range:
    """The range of a number."""
    values = BOUNDS[message][field].values
    if values is None:
        raise KeyError(f"{message}.{field} has no range")
    return values


def text_is_larger(text: str, max_bytes: int) -> bool:
    """Whether the text has more bytes of UTF-8. Looks at no more than the text's length where that decides."""
    if len(text) * 4 <= max_bytes:
        return False
    return len(text) > max_bytes or len(text.encode()) > max_bytes
