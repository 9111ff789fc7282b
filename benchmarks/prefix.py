"""What a cached prefix saves: the time to first token of a prompt whose first 2,000 tokens were seen before.

`python -m benchmarks.prefix [--prefix-tokens 2000] [--repeats 5] [--output FILE.json]`. The goal: a tenth.
"""

import argparse
import asyncio
import random
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.report import machine, table, write_report
from benchmarks.token_times import timed_generation
from tests.support.models import demo_model, linked_models
from tests.support.triton import run_triton
from tests.support.triton_stream import InferStream

GOAL = 0.1
OWN_TOKENS = 20
MODEL = "chat"


@dataclass(frozen=True)
class Result:
    """Two requests with one prefix, one after the other."""

    first_time_to_first_token_ms: float
    second_time_to_first_token_ms: float
    cached_prompt_tokens: int
    prompt_tokens: int

    @property
    def ratio(self) -> float:
        """Second to first."""
        return self.second_time_to_first_token_ms / self.first_time_to_first_token_ms


async def measure(address: str, prefix_tokens: int, repeats: int) -> list[Result]:
    """One result a prefix; the first round warms up and is not counted."""
    chance = random.Random(1)

    def tokens(count: int) -> list[int]:
        return [chance.randrange(300, 30_000) for _ in range(count)]

    results = []
    async with InferStream(address) as stream:
        for number in range(repeats + 1):
            prefix = tokens(prefix_tokens)
            first, second = [
                await timed_generation(
                    stream, MODEL, f"{number}.{turn}", prefix + tokens(OWN_TOKENS), 4, ignore_eos=True
                )
                for turn in range(2)
            ]
            if number > 0:
                results.append(
                    Result(
                        1e3 * first.time_to_first_token_s,
                        1e3 * second.time_to_first_token_s,
                        second.answer.number("cached_prompt_tokens"),
                        second.answer.number("prompt_tokens"),
                    )
                )
    return results


def main() -> None:
    """Measures, prints a table, writes JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prefix", description=__doc__)
    parser.add_argument("--prefix-tokens", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5, help="pairs, after one that is not counted")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/out/prefix.json"))
    arguments = parser.parse_args()
    with linked_models({MODEL: {}}, source=demo_model(MODEL)) as repository, run_triton(repository) as server:
        results = asyncio.run(measure(server.grpc_address, arguments.prefix_tokens, arguments.repeats))
    heads = ("first TTFT", "second TTFT", "ratio", "cached of prompt tokens")
    rows = (
        (
            f"{one.first_time_to_first_token_ms:.0f} ms",
            f"{one.second_time_to_first_token_ms:.0f} ms",
            f"{one.ratio:.3f}",
            f"{one.cached_prompt_tokens} of {one.prompt_tokens}",
        )
        for one in results
    )
    ratio = statistics.median(one.ratio for one in results)
    print(f"{machine()}\n{table(heads, rows)}\nmedian ratio {ratio:.3f}; the goal is at most {GOAL:g}")
    runs = [{**asdict(one), "ratio": one.ratio} for one in results]
    write_report(arguments.output, {"prefix_tokens": arguments.prefix_tokens, "runs": runs})


if __name__ == "__main__":
    main()
