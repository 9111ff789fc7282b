"""Checks the values of a generation or score request, all violations at once. Sizes were checked before (bounds)."""

from collections.abc import Iterable
from dataclasses import dataclass

from naiad.v1 import generation_pb2 as pb

from services.common.bounds import Range, range_of
from services.common.call import current_tenant, may_share_prefixes
from services.common.chat_template import Message
from services.common.errors import NaiadError, Violations
from services.common.registry import ModelEntry
from services.common.text_models import check_messages
from services.generation.guide_validation import read_guide
from services.generation.parameters import Generation, Prompt, Sampling, Scheduling, Stopping, Wanted

AnyGenerateRequest = pb.GenerateRequest | pb.GenerateStreamRequest


@dataclass(frozen=True)
class Limit:
    """Range of one number, and its default."""

    values: Range
    default: float


LIMITS = {
    "sampling.temperature": Limit(range_of("SamplingOptions", "temperature"), 1),
    "sampling.top_p": Limit(range_of("SamplingOptions", "top_p"), 1),
    "sampling.top_k": Limit(range_of("SamplingOptions", "top_k"), 0),
    "sampling.min_p": Limit(range_of("SamplingOptions", "min_p"), 0),
    "sampling.repetition_penalty": Limit(range_of("SamplingOptions", "repetition_penalty"), 1),
    "sampling.presence_penalty": Limit(range_of("SamplingOptions", "presence_penalty"), 0),
    "sampling.frequency_penalty": Limit(range_of("SamplingOptions", "frequency_penalty"), 0),
    "sampling.n": Limit(range_of("SamplingOptions", "n"), 1),
    "stopping.min_tokens": Limit(range_of("StoppingOptions", "min_tokens"), 0),
    "response.top_logprobs": Limit(range_of("ResponseOptions", "top_logprobs"), 0),
    "top_logprobs": Limit(range_of("ScoreRequest", "top_logprobs"), 0),
    "priority": Limit(range_of("GenerateRequest", "priority"), 0),
}
_BEST_OF = range_of("SamplingOptions", "best_of")
_LOGIT_BIAS = range_of("SamplingOptions", "logit_bias")


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
    violations.require(limit.values.allows(value), path, f"{value:g} is out of range, {limit.values}")
    return value


def _int(options: _Options, name: str, path: str, violations: Violations) -> int:
    return int(_number(options, name, path, violations))


def _read_sampling(options: pb.SamplingOptions, entry: ModelEntry, stream: bool, violations: Violations) -> Sampling:
    def number(name: str) -> float:
        return _number(options, name, f"sampling.{name}", violations)

    n = int(number("n"))
    best_of = options.best_of if options.HasField("best_of") else n
    violations.require(
        n <= best_of <= _BEST_OF.high, "sampling.best_of", f"{best_of} is out of range, from n to {_BEST_OF.high:g}"
    )
    violations.require(not stream or best_of <= n, "sampling.best_of", "a stream cannot choose: larger than n")
    bias = dict(options.logit_bias)
    for token, value in bias.items():
        field = f"sampling.logit_bias[{token}]"
        violations.require(
            0 <= token < entry.vocabulary_size, field, f"not a token id, 0 to {entry.vocabulary_size - 1}"
        )
        violations.require(_LOGIT_BIAS.allows(value), field, f"{value:g} is out of range, {_LOGIT_BIAS}")
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
    for index, text in enumerate(options.stop):
        violations.require(bool(text), f"stopping.stop[{index}]", "empty; at least 1 byte is needed")
    stop_ids = tuple(options.stop_token_ids)
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
