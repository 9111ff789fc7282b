"""Checks every field of a generation or score request against one table of limits; all violations at once."""

from collections.abc import Iterable
from dataclasses import dataclass

from naiad.v1 import generation_pb2 as pb

from services.common.call import current_tenant, may_share_prefixes
from services.common.chat_template import Message
from services.common.errors import NaiadError, Violations
from services.common.registry import ModelEntry
from services.common.text_models import MAX_TEXT_BYTES, check_messages, text_is_too_long
from services.generation.guide_validation import read_guide
from services.generation.parameters import Generation, Prompt, Sampling, Scheduling, Stopping, Wanted

AnyGenerateRequest = pb.GenerateRequest | pb.GenerateStreamRequest


@dataclass(frozen=True)
class Limit:
    """Range of one number, bounds included unless `above` says that the lower one is not, and its default."""

    low: float
    high: float
    default: float
    above: bool = False

    def allows(self, value: float) -> bool:
        """Whether `value` is in the range; NaN is not."""
        return (self.low < value if self.above else self.low <= value) and value <= self.high

    def __str__(self) -> str:
        return f"over {self.low:g}, at most {self.high:g}" if self.above else f"from {self.low:g} to {self.high:g}"


_INT32_MAX = (1 << 31) - 1
LIMITS = {
    "sampling.temperature": Limit(0, 100, 1),
    "sampling.top_p": Limit(0, 1, 1, above=True),
    "sampling.top_k": Limit(0, _INT32_MAX, 0),
    "sampling.min_p": Limit(0, 1, 0),
    "sampling.repetition_penalty": Limit(0, 10, 1, above=True),
    "sampling.presence_penalty": Limit(-2, 2, 0),
    "sampling.frequency_penalty": Limit(-2, 2, 0),
    "sampling.n": Limit(1, 16, 1),
    "stopping.min_tokens": Limit(0, _INT32_MAX, 0),
    "response.top_logprobs": Limit(0, 20, 0),
    "top_logprobs": Limit(0, 20, 0),
    "priority": Limit(-100, 100, 0),
}
LOGIT_BIAS_VALUE = Limit(-100, 100, 0)
MAX_LOGIT_BIASES = 1024
MAX_BEST_OF = 16
MAX_STOP_TEXTS = 16
MAX_STOP_TEXT_BYTES = 256
MAX_STOP_TOKENS = 64


def read_generation(request: AnyGenerateRequest, entry: ModelEntry) -> Generation:
    """The request as plain data. Raises INVALID_FIELD with all violations."""
    violations = Violations()
    stream = isinstance(request, pb.GenerateStreamRequest)
    generation = Generation(
        model=request.model,
        prompt=_read_prompt(request, entry, violations),
        sampling=_read_sampling(request.sampling, entry, stream, violations),
        stopping=_read_stopping(request.stopping, entry, violations),
        wanted=_read_wanted(request.response, violations),
        scheduling=_read_scheduling(request, violations),
        guide=read_guide(request, violations),
    )
    violations.raise_if_any()
    return generation


def read_score(request: pb.ScoreRequest, entry: ModelEntry) -> tuple[Prompt, int]:
    """What to score and the number of alternatives. Raises INVALID_FIELD with all violations."""
    violations = Violations()
    top_logprobs = _int(request, "top_logprobs", "top_logprobs", violations)
    if request.WhichOneof("input") == "token_ids":
        prompt = _read_token_ids(request.token_ids.ids, entry, violations)
    else:
        prompt = _read_text(request, "input", violations)
    violations.raise_if_any()
    return prompt, top_logprobs


def _read_prompt(request: AnyGenerateRequest, entry: ModelEntry, violations: Violations) -> Prompt:
    kind = request.WhichOneof("prompt")
    if kind == "token_ids":
        return _read_token_ids(request.token_ids.ids, entry, violations)
    if kind == "chat":
        messages = tuple(Message(message.role, message.content) for message in request.chat.messages)
        try:
            check_messages(messages, "chat.messages")
        except NaiadError as error:
            violations.extend(error.field_violations)
        add_prompt = request.chat.add_generation_prompt if request.chat.HasField("add_generation_prompt") else True
        return Prompt("chat.messages", messages=messages, add_generation_prompt=add_prompt)
    return _read_text(request, "prompt", violations)


def _read_text(request: AnyGenerateRequest | pb.ScoreRequest, oneof: str, violations: Violations) -> Prompt:
    violations.require(request.HasField("text"), oneof, "missing")
    violations.require(not text_is_too_long(request.text), "text", f"more than {MAX_TEXT_BYTES} bytes")
    return Prompt("text", text=request.text)


def _read_token_ids(ids: Iterable[int], entry: ModelEntry, violations: Violations) -> Prompt:
    token_ids = tuple(ids)
    violations.require(bool(token_ids), "token_ids.ids", "empty")
    _check_tokens(token_ids, "token_ids.ids", entry, violations)
    return Prompt("token_ids.ids", token_ids=token_ids)


def _check_tokens(ids: tuple[int, ...], field: str, entry: ModelEntry, violations: Violations) -> None:
    if ids and not (min(ids) >= 0 and max(ids) < entry.vocabulary_size):
        index = next(i for i, token in enumerate(ids) if not 0 <= token < entry.vocabulary_size)
        violations.add(f"{field}[{index}]", f"{ids[index]} is not a token id, 0 to {entry.vocabulary_size - 1}")


_Options = (
    pb.SamplingOptions
    | pb.StoppingOptions
    | pb.ResponseOptions
    | pb.ScoreRequest
    | pb.GenerateRequest
    | pb.GenerateStreamRequest
)


def _number(options: _Options, name: str, path: str, violations: Violations) -> float:
    limit = LIMITS[path]
    if not options.HasField(name):  # type: ignore[arg-type]  # the stub knows only literal names
        return limit.default
    value: float = getattr(options, name)
    violations.require(limit.allows(value), path, f"{value:g} is out of range, {limit}")
    return value


def _int(options: _Options, name: str, path: str, violations: Violations) -> int:
    return int(_number(options, name, path, violations))


def _read_sampling(options: pb.SamplingOptions, entry: ModelEntry, stream: bool, violations: Violations) -> Sampling:
    def number(name: str) -> float:
        return _number(options, name, f"sampling.{name}", violations)

    n = int(number("n"))
    best_of = options.best_of if options.HasField("best_of") else n
    violations.require(
        n <= best_of <= MAX_BEST_OF, "sampling.best_of", f"{best_of} is out of range, from n to {MAX_BEST_OF}"
    )
    violations.require(not stream or best_of <= n, "sampling.best_of", "a stream cannot choose: larger than n")
    bias = dict(options.logit_bias)
    violations.require(len(bias) <= MAX_LOGIT_BIASES, "sampling.logit_bias", f"more than {MAX_LOGIT_BIASES} entries")
    for token, value in bias.items():
        field = f"sampling.logit_bias[{token}]"
        violations.require(
            0 <= token < entry.vocabulary_size, field, f"not a token id, 0 to {entry.vocabulary_size - 1}"
        )
        violations.require(LOGIT_BIAS_VALUE.allows(value), field, f"{value:g} is out of range, {LOGIT_BIAS_VALUE}")
    return Sampling(
        temperature=number("temperature"),
        top_p=number("top_p"),
        top_k=int(number("top_k")),
        min_p=number("min_p"),
        repetition_penalty=number("repetition_penalty"),
        presence_penalty=number("presence_penalty"),
        frequency_penalty=number("frequency_penalty"),
        logit_bias=bias,
        seed=options.seed if options.HasField("seed") else None,
        n=n,
        best_of=best_of,
    )


def _read_stopping(options: pb.StoppingOptions, entry: ModelEntry, violations: Violations) -> Stopping:
    max_tokens = options.max_tokens if options.HasField("max_tokens") else None
    violations.require(max_tokens is None or max_tokens >= 0, "stopping.max_tokens", f"{max_tokens} is less than 0")
    min_tokens = _int(options, "min_tokens", "stopping.min_tokens", violations)
    violations.require(
        max_tokens is None or min_tokens <= max_tokens, "stopping.min_tokens", f"{min_tokens} is more than max_tokens"
    )
    violations.require(len(options.stop) <= MAX_STOP_TEXTS, "stopping.stop", f"more than {MAX_STOP_TEXTS} texts")
    for index, text in enumerate(options.stop):
        size = len(text.encode())
        violations.require(
            1 <= size <= MAX_STOP_TEXT_BYTES,
            f"stopping.stop[{index}]",
            f"{size} bytes; 1 to {MAX_STOP_TEXT_BYTES} are allowed",
        )
    stop_ids = tuple(options.stop_token_ids)
    violations.require(len(stop_ids) <= MAX_STOP_TOKENS, "stopping.stop_token_ids", f"more than {MAX_STOP_TOKENS} ids")
    _check_tokens(stop_ids, "stopping.stop_token_ids", entry, violations)
    return Stopping(max_tokens, min_tokens, tuple(options.stop), stop_ids, options.ignore_eos)


def _read_wanted(options: pb.ResponseOptions, violations: Violations) -> Wanted:
    top_logprobs = _int(options, "top_logprobs", "response.top_logprobs", violations)
    violations.require(options.logprobs or top_logprobs == 0, "response.top_logprobs", "needs logprobs")
    return Wanted(options.logprobs, top_logprobs, options.echo, options.return_token_ids)


def _read_scheduling(request: AnyGenerateRequest, violations: Violations) -> Scheduling:
    use_prefix_cache = request.use_prefix_cache if request.HasField("use_prefix_cache") else True
    priority = _int(request, "priority", "priority", violations)
    use = current_tenant()
    if use is not None:
        most = use.tenant.max_priority
        violations.require(priority <= most, "priority", f"{priority}; this tenant may ask for at most {most}")
    return Scheduling(priority, use_prefix_cache and may_share_prefixes())
