"""Two tenants, one of them greedy: what the other's requests take while it fills its share, and at ten times that.

`python -m benchmarks.tenants [--seconds 15] [--rounds 2] [--output FILE.json]`. The whole stack, with the demo model
`chat`. The greedy tenant has as many callers as requests fit into its share, half of the process, and then ten times as
many; each sends its next request when the last one is answered, after the wait that a refusal asks for. The modest one
sends requests at random times, the same in every phase, a quarter of what the process can do. The goal: ten times the
share leaves the modest one's p99 within 1.2 times, and hardly any of its requests refused.
"""

import argparse
import asyncio
import json
import random
import secrets
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import grpc
from naiad.v1 import generation_pb2, generation_pb2_grpc

from benchmarks.report import percentile, table, write_report
from services.common.settings import GenerationSettings
from services.common.tenant_file import digest_of
from tests.support.models import demo_model, linked_models
from tests.support.stack import Stack, running_stack

MODEL = "chat"
GOAL = 1.2
TIMES = (1, 10)
PROMPT_TOKENS = 32
NEW_TOKENS = 16
IN_FLIGHT = 16  # requests that the service admits
WARM_SECONDS = 3.0
TENANTS = ("greedy", "modest")


@dataclass
class Outcome:
    """What became of one tenant's requests in one phase."""

    offered: int = 0
    served_ms: list[float] = field(default_factory=list)
    refused_ms: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Result:
    """One phase. Times are from the call to its whole answer, of the modest tenant unless said."""

    greedy_times: int
    greedy_offered_per_s: float
    greedy_served_per_s: float
    modest_offered: int
    modest_refused: int
    modest_p50_ms: float
    modest_p99_ms: float
    greedy_refusal_p99_ms: float | None


class Tenant:
    """A tenant's connection. Nothing is retried: what is refused counts as refused."""

    def __init__(self, stack: Stack, token: str, seed: int) -> None:
        self._channel = grpc.aio.insecure_channel(stack.address("generation"), options=(("grpc.enable_retries", 0),))
        self._stub = generation_pb2_grpc.GenerationServiceStub(self._channel)
        self._metadata = (("authorization", f"Bearer {token}"),)
        self.chance = random.Random(seed)

    async def generate(self, outcome: Outcome) -> float:
        """One request; the seconds that a refusal asks to wait, else 0."""
        request = generation_pb2.GenerateRequest(model=MODEL, use_prefix_cache=False)
        request.token_ids.ids.extend(self.chance.randrange(300, 30_000) for _ in range(PROMPT_TOKENS))
        request.sampling.temperature = 0
        request.stopping.max_tokens, request.stopping.ignore_eos = NEW_TOKENS, True
        begun_s = time.perf_counter()
        outcome.offered += 1
        try:
            await self._stub.Generate(request, metadata=self._metadata, timeout=60)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise
            outcome.refused_ms.append(1e3 * (time.perf_counter() - begun_s))
            pushback = dict(error.trailing_metadata() or ())["grpc-retry-pushback-ms"]
            return int(pushback) / 1000
        outcome.served_ms.append(1e3 * (time.perf_counter() - begun_s))
        return 0.0

    async def offer(self, per_s: float, seconds: float) -> Outcome:
        """Requests at random times, `per_s` of them a second, whether earlier ones are answered or not."""
        outcome = Outcome()
        async with asyncio.TaskGroup() as group:
            loop = asyncio.get_running_loop()
            next_s = loop.time()
            end_s = next_s + seconds
            while (next_s := next_s + self.chance.expovariate(per_s)) < end_s:
                await asyncio.sleep(max(0.0, next_s - loop.time()))
                group.create_task(self.generate(outcome))
        return outcome

    async def insist(self, callers: int, seconds: float) -> Outcome:
        """Requests of `callers` who each send the next when the last one is answered."""
        outcome = Outcome()
        end_s = time.perf_counter() + seconds

        async def one_after_the_other() -> None:
            while (left_s := end_s - time.perf_counter()) > 0:
                if (wait_s := await self.generate(outcome)) > 0:
                    await asyncio.sleep(min(left_s, wait_s * self.chance.uniform(1.0, 1.5)))

        async with asyncio.TaskGroup() as group:
            for _ in range(callers):
                group.create_task(one_after_the_other())
        return outcome

    async def close(self) -> None:
        """Ends the connection."""
        await self._channel.close()


async def phase(stack: Stack, tokens: dict[str, str], modest_per_s: float, times: int, seconds: float) -> Result:
    """Both tenants at once."""
    greedy, modest = (Tenant(stack, tokens[name], seed) for seed, name in enumerate(TENANTS))
    callers = times * IN_FLIGHT // 2
    try:
        await asyncio.gather(greedy.insist(callers, WARM_SECONDS), modest.offer(modest_per_s, WARM_SECONDS))
        modest.chance.seed(7)
        of_greedy, of_modest = await asyncio.gather(
            greedy.insist(callers, seconds), modest.offer(modest_per_s, seconds)
        )
    finally:
        await asyncio.gather(greedy.close(), modest.close())
    return Result(
        greedy_times=times,
        greedy_offered_per_s=of_greedy.offered / seconds,
        greedy_served_per_s=len(of_greedy.served_ms) / seconds,
        modest_offered=of_modest.offered,
        modest_refused=len(of_modest.refused_ms),
        modest_p50_ms=percentile(of_modest.served_ms, 0.5),
        modest_p99_ms=percentile(of_modest.served_ms, 0.99),
        greedy_refusal_p99_ms=percentile(of_greedy.refused_ms, 0.99) if of_greedy.refused_ms else None,
    )


async def measure(stack: Stack, tokens: dict[str, str], seconds: float, rounds: int) -> tuple[float, list[Result]]:
    """Capacity in requests a second, with half of what is admitted for each tenant; and the phases in turn."""
    tenants = [Tenant(stack, tokens[name], 100 + seed) for seed, name in enumerate(TENANTS)]
    for span_s in (WARM_SECONDS, 2 * WARM_SECONDS):
        outcomes = await asyncio.gather(*(tenant.insist(IN_FLIGHT // 2, span_s) for tenant in tenants))
    capacity = sum(len(outcome.served_ms) for outcome in outcomes) / (2 * WARM_SECONDS)
    await asyncio.gather(*(tenant.close() for tenant in tenants))
    print(f"capacity {capacity:.1f} requests/s", flush=True)
    results: list[Result] = []
    for _ in range(rounds):
        for times in TIMES:
            results.append(await phase(stack, tokens, capacity / 4, times, seconds))
            print(summary(results[-1:]).splitlines()[-1], flush=True)
    return capacity, results


def ratio(results: list[Result]) -> float:
    """The modest tenant's p99 beside ten times the share, to that beside the share; each the best of its rounds."""
    best = {times: min(one.modest_p99_ms for one in results if one.greedy_times == times) for times in TIMES}
    return best[TIMES[1]] / best[TIMES[0]]


def summary(results: list[Result]) -> str:
    """A table of all phases."""
    return table(
        ("greedy offers", "greedy offered / served a second", "modest refused", "modest p50 / p99", "refusal p99"),
        (
            (
                f"{one.greedy_times} x its share",
                f"{one.greedy_offered_per_s:.1f} / {one.greedy_served_per_s:.1f}",
                f"{one.modest_refused} of {one.modest_offered}",
                f"{one.modest_p50_ms:.0f} / {one.modest_p99_ms:.0f} ms",
                "-" if one.greedy_refusal_p99_ms is None else f"{one.greedy_refusal_p99_ms:.1f} ms",
            )
            for one in results
        ),
    )


def main() -> None:
    """Measures, prints a table, writes JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tenants", description=__doc__)
    parser.add_argument("--seconds", type=float, default=15.0, help="length of a phase (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="phases of each kind (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/out/tenants.json"))
    arguments = parser.parse_args()
    tokens = {name: secrets.token_urlsafe(32) for name in TENANTS}
    with (
        tempfile.TemporaryDirectory(prefix="naiad-tenants-") as folder,
        linked_models({MODEL: {}}, source=demo_model(MODEL)) as repository,
    ):
        work = Path(folder)
        file = work / "tenants.json"
        entries = {name: {"tokens": [{"sha256": digest_of(token).hex()}]} for name, token in tokens.items()}
        file.write_text(json.dumps({"tenants": entries}))
        with running_stack(
            repository,
            work,
            NAIAD_TENANTS_FILE=str(file),
            NAIAD_GENERATION_QUEUE_TARGET_MS=str(GenerationSettings().queue_target_ms),
            NAIAD_GENERATION_MAX_INFLIGHT_TOKENS=str(IN_FLIGHT * (PROMPT_TOKENS + NEW_TOKENS)),
        ) as stack:
            capacity, results = asyncio.run(measure(stack, tokens, arguments.seconds, arguments.rounds))
    print(summary(results))
    print(f"\np99 of the modest tenant, 10 times to 1: {ratio(results):.2f} (goal: at most {GOAL})")
    report = {"capacity_requests_per_s": capacity, "phases": [asdict(one) for one in results], "ratio": ratio(results)}
    write_report(arguments.output, report)


if __name__ == "__main__":
    main()
