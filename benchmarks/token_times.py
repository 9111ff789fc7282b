"""When the tokens of a generation arrive, asked of Triton as the generation service asks it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.support.triton_stream import Generation, InferStream, Parameter, generate_request, parameters_of


@dataclass
class TimedGeneration:
    """One generation of one sequence; times are of the monotonic clock, in seconds."""

    sent_s: float
    delivered_s: list[float] = field(default_factory=list)  # When each response with new tokens came.
    answer: Generation = field(default_factory=Generation)

    @property
    def time_to_first_token_s(self) -> float:
        """Until the first new token."""
        return self.delivered_s[0] - self.sent_s


async def timed_generation(
    stream: InferStream, model: str, name: str, prompt: list[int], max_tokens: int, **parameters: Parameter
) -> TimedGeneration:
    """One generation from request to end."""
    timed = await begin(stream, model, name, prompt, max_tokens, **parameters)
    await follow(stream, name, timed)
    return timed


async def begin(
    stream: InferStream, model: str, name: str, prompt: list[int], max_tokens: int, **parameters: Parameter
) -> TimedGeneration:
    """Sends the request."""
    timed = TimedGeneration(time.perf_counter())
    await stream.send(generate_request(model, name, prompt, max_tokens, **parameters))
    return timed


async def follow(
    stream: InferStream, name: str, timed: TimedGeneration, on_delivery: Callable[[], None] | None = None
) -> None:
    """Notes every delivery until the last response; an answer to a stop message is passed over."""
    while True:
        message = await stream.next_response(name, timeout_s=300)
        known = len(timed.answer.tokens)
        ends = message.error_message or "finish_reason" in parameters_of(message.infer_response)
        timed.answer.add(message)
        if len(timed.answer.tokens) > known:
            timed.delivered_s.append(time.perf_counter())
            if on_delivery is not None:
                on_delivery()
        if ends:
            break
    if timed.answer.error_message or timed.answer.finish_reason == "error":
        raise RuntimeError(f"{name} failed: {timed.answer.error_message or timed.answer.final['error_message']}")
