"""Random generation requests, as many kinds at once as the engine knows, some of them stopped on the way."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from tritonclient.grpc import service_pb2

from tests.support.triton_stream import (
    Generation,
    InferStream,
    Parameter,
    generate_request,
    parameters_of,
    stop_message,
)


@dataclass(frozen=True)
class Job:
    """One request, and when it is stopped."""

    prompt: list[int]
    max_tokens: int
    sequences: int = 1
    parameters: dict[str, Parameter] = field(default_factory=dict)
    stop_after_responses: int | None = None  # None: it runs to its own end; 0: the stop message follows at once.
    stopped_sequence: int | None = None  # None: the stop message ends all sequences.
    stop_delay_s: float = 0

    @property
    def seed(self) -> int:
        """Seed of the request; 0 unless it is sampled."""
        return int(self.parameters.get("seed", 0))


@dataclass(frozen=True)
class TrafficShape:
    """Bounds of random jobs."""

    vocabulary_size: int
    first_token: int = 1
    max_prefix_tokens: int = 96
    max_suffix_tokens: int = 40
    max_new_tokens: int = 48
    max_sequences: int = 4
    max_draft_tokens: int = 8
    stopped_share: float = 0.3
    max_responses_before_stop: int = 24
    max_stop_delay_s: float = 0


def random_jobs(count: int, shape: TrafficShape, seed: int) -> list[Job]:
    """`count` jobs: prompts with a prefix of a few that are shared, greedy and sampled, of all priorities."""
    chance = random.Random(seed)

    def tokens(most: int) -> list[int]:
        return [chance.randrange(shape.first_token, shape.vocabulary_size) for _ in range(chance.randint(1, most))]

    prefixes = [tokens(shape.max_prefix_tokens) for _ in range(8)]
    return [_random_job(chance, shape, chance.choice(prefixes) + tokens(shape.max_suffix_tokens)) for _ in range(count)]


def _random_job(chance: random.Random, shape: TrafficShape, prompt: list[int]) -> Job:
    sequences = chance.choice((1, 1, 1, chance.randint(1, shape.max_sequences)))
    parameters: dict[str, Parameter] = {
        "ignore_eos": chance.random() < 0.7,
        "request_priority": chance.randint(-2, 2),
        "num_return_sequences": sequences,
        "use_prefix_cache": chance.random() < 0.8,
        "max_draft_tokens": chance.randint(0, shape.max_draft_tokens),
    }
    if chance.random() < 0.4:
        parameters |= {"temperature": chance.choice((0.5, 1.0, 2.0)), "seed": chance.getrandbits(62)}
    max_tokens = chance.randint(1, shape.max_new_tokens)
    most_responses = min(max_tokens // 2, shape.max_responses_before_stop)
    is_stopped = chance.random() < shape.stopped_share
    return Job(
        prompt=prompt,
        max_tokens=max_tokens,
        sequences=sequences,
        parameters=parameters,
        stop_after_responses=chance.randint(0, most_responses) if is_stopped else None,
        stopped_sequence=chance.choice((None, chance.randrange(sequences))),
        stop_delay_s=chance.uniform(0, shape.max_stop_delay_s),
    )


async def run_job(stream: InferStream, model: str, name: str, job: Job, timeout_s: float) -> list[Generation]:
    """Sends the request, stops it when it is time to, reads all its responses; one result a sequence."""
    await stream.send(generate_request(model, name, job.prompt, job.max_tokens, **job.parameters))
    collected = _Collected()
    while not collected.ended and collected.responses != job.stop_after_responses:
        collected.add(await stream.next_response(name, timeout_s))
    if job.stop_after_responses is not None:
        await asyncio.sleep(job.stop_delay_s)
        one = {} if job.stopped_sequence is None else {"sequence_index": job.stopped_sequence}
        await stream.send(stop_message(model, name, **one))
        # The answer to the stop message, and unless it came already the last response of the request.
        collected.finals_expected = 2
    while not collected.ended:
        collected.add(await stream.next_response(name, timeout_s))
    stream.forget(name)
    return [collected.sequences[index] for index in sorted(collected.sequences)]


class _Collected:
    """The responses to one request and to its stop message, which carry the same id."""

    def __init__(self) -> None:
        self.sequences: dict[int, Generation] = {}
        self.responses = 0
        self.finals_expected = 1
        self._finals = 0

    @property
    def ended(self) -> bool:
        return self._finals >= self.finals_expected

    def add(self, message: service_pb2.ModelStreamInferResponse) -> None:
        self.responses += 1
        parameters = parameters_of(message.infer_response)
        is_last = bool(message.error_message or parameters.get("triton_final_response"))
        self._finals += is_last
        if is_last and not message.error_message and "finish_reason" not in parameters:
            return  # The answer to the stop message.
        index = int(parameters.get("sequence_index", 0))
        self.sequences.setdefault(index, Generation()).add(message)


async def run_jobs(
    stream: InferStream, model: str, jobs: Sequence[Job], in_flight: int, timeout_s: float = 60
) -> list[list[Generation]]:
    """Runs the jobs, at most `in_flight` at a time; results in the order of the jobs.

    `timeout_s` bounds the wait for each response: low priorities wait as long as there are higher ones.
    """
    places = asyncio.Semaphore(in_flight)

    async def run(number: int, job: Job) -> list[Generation]:
        async with places:
            return await run_job(stream, model, f"job{number}", job, timeout_s)

    return await asyncio.gather(*(run(number, job) for number, job in enumerate(jobs)))
