"""Mixed traffic through the gRPC services for a long time, and what every process holds meanwhile.

`make soak`, or `python -m benchmarks.soak [--minutes 30] [--clients 8] [--faults] [--output FILE.json]`. After a
warm-up, the first third, memory, descriptors, threads and tasks must stay level (`process_samples.py` has the limits).
With `--faults` a part is killed or frozen, or connections are reset, each 30 s. Exits with 1 if something grows, if a
call fails otherwise than it may, if tokens are lost or repeated, or if the engine does not end idle.
"""

import argparse
import contextlib
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.process_samples import QUANTITIES, ProcessSampler, Trend
from benchmarks.report import machine, table, write_report
from benchmarks.soak_faults import Fault, FaultInjector, through_proxies
from benchmarks.soak_traffic import SoakTraffic, outcome_of
from tests.support.engine_metrics import EngineMetrics, scrape
from tests.support.history import OK, History, violations
from tests.support.models import DEMO_MODELS, demo_model, link_model, linked_models
from tests.support.recorded_calls import Question, ask, ask_stream
from tests.support.stack import Stack, running_stack

WARM_UP_PART = 1 / 3
JUDGED_PARTS = frozenset({"tritonserver", "tokenization", "generation", "classification"})
# Small, so that all of it is in use early and blocks run out often.
KV_CACHE_BYTES = 128 << 20
EXPECTED = frozenset({"RESOURCE_EXHAUSTED"})
EXPECTED_WITH_FAULTS = EXPECTED | {"UNAVAILABLE", "CANCELLED"}
# Whoever cannot be served does not ask again at once.
PAUSE_AFTER_FAILURE_S = 0.2
QUIET_END_S = 20.0
# Asked again and again; their tokens are compared with those of the first time, before any load.
SAME = "same"
QUESTIONS = [Question("chat", list(range(300, 300 + length)), 40, deadline_s=600) for length in (3, 30, 90)]


@dataclass(frozen=True)
class Soak:
    """How long, by how many, and whether parts are hurt."""

    minutes: float
    clients: int
    faults: bool


@dataclass(frozen=True)
class Findings:
    """What a soak has seen."""

    trends: Sequence[Trend]
    history: History
    answers: dict[str, list[int]]
    engine: EngineMetrics
    faults: Sequence[Fault]


@contextlib.contextmanager
def soak_repository() -> Iterator[Path]:
    """The demo models, `chat` with a small KV cache."""
    with linked_models({"chat": {"kv_cache_bytes": str(KV_CACHE_BYTES)}}, source=demo_model("chat")) as repository:
        for name in DEMO_MODELS:
            if name != "chat":
                link_model(demo_model(name), repository, name, {})
        yield repository


def answers_without_load(stack: Stack) -> dict[str, list[int]]:
    """What each of QUESTIONS is answered, before anything else happens."""
    history = History()
    for question in QUESTIONS:
        ask(stack.channel("generation"), question, history.begin(SAME, question.answer))
    assert history.outcomes() == {OK: len(QUESTIONS)}, history.calls
    return {str(call.answer): call.tokens for call in history.calls}


def put_load_on(stack: Stack, clients: int, minutes: float) -> History:
    """Runs the clients until the time is over."""
    kinds = SoakTraffic(stack).kinds()
    history = History()
    end = time.monotonic() + 60 * minutes
    waiting = threading.Event()

    def client(seed: int) -> None:
        chance = random.Random(seed)
        while time.monotonic() < end:
            kind = chance.choice([*kinds, SAME])
            if kind == SAME:
                question = chance.choice(QUESTIONS)
                call = history.begin(SAME, question.answer)
                ask_stream(stack.channel("generation"), question, call, threading.Event())
            else:
                call = history.begin(kind)
                call.end(outcome_of(kinds[kind], chance))
            if call.outcome != OK:
                waiting.wait(PAUSE_AFTER_FAILURE_S)

    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return history


def soak(options: Soak, folder: Path) -> Findings:
    """Starts the system, puts load on it, hurts it if told so, and stops it."""
    with soak_repository() as repository, running_stack(repository, folder) as stack, contextlib.ExitStack() as during:
        answers = answers_without_load(stack)
        sampler = ProcessSampler(stack)
        injector = FaultInjector(stack, during.enter_context(through_proxies(stack))) if options.faults else None
        if injector is not None:
            during.callback(injector.stop)
            # The system must be whole when the load ends, to be seen idle.
            quiet = threading.Timer(60 * options.minutes - QUIET_END_S, injector.stop)
            quiet.start()
            during.callback(quiet.cancel)
        history = put_load_on(stack, options.clients, options.minutes)
        sampler.stop()
        engine = EngineMetrics.parse(scrape(stack.metrics_ports["triton"]), "chat")
    injected = injector.injected if injector is not None else []
    return Findings(sampler.trends(WARM_UP_PART), history, answers, engine, injected)


def complaints(found: Findings) -> list[str]:
    """Everything that is wrong."""
    wrong = [
        f"{one.quantity} of {one.part} grew by {one.growth:.0f} after the warm-up"
        for one in found.trends
        if not one.is_level
    ]
    judged = {one.part for one in found.trends if one.quantity == "memory"}
    wrong += [f"no process of {part} lived long enough to be judged" for part in sorted(JUDGED_PARTS - judged)]
    allowed = EXPECTED_WITH_FAULTS if found.faults else EXPECTED
    wrong += violations(found.history, found.answers, allowed)
    if found.engine.unfinished or found.engine.blocks("used"):
        wrong.append(
            f"{found.engine.unfinished:.0f} requests and {found.engine.blocks('used'):.0f} blocks are still in use"
        )
    return wrong


def summary(found: Findings) -> str:
    """Tables of what processes hold and of calls, and what the engine did since it was started last."""
    scales = {quantity.name: quantity for quantity in QUANTITIES}
    heads = ("part", "quantity", "processes", "longest, minutes", "median", "growth in it", "a minute", "")

    def row(one: Trend) -> tuple[str, ...]:
        quantity = scales[one.quantity]
        numbers = [f"{value / quantity.scale:.2f}" for value in (one.median, one.growth, one.growth_per_minute)]
        verdict = "level" if one.is_level else "GROWS"
        name = f"{one.quantity} {quantity.unit}".strip()
        return (one.part, name, str(one.processes), f"{one.judged_s / 60:.0f}", *numbers, verdict)

    kinds = sorted({call.kind for call in found.history.calls})
    calls = ((kind, code, str(count)) for kind in kinds for code, count in sorted(found.history.outcomes(kind).items()))
    engine = found.engine
    cached, prompts = (engine.total(f"naiad_{name}_total") for name in ("prefix_cache_hit_tokens", "prompt_tokens"))
    return "\n".join(
        (
            table(heads, map(row, found.trends)),
            table(("call", "outcome", "times"), calls),
            f"{len(found.faults)} faults; {engine.total('naiad_num_preemptions_total'):.0f} preemptions, "
            f"{cached:.0f} of {prompts:.0f} prompt tokens from the cache",
        )
    )


def report(options: Soak, found: Findings, wrong: list[str]) -> dict[str, Any]:
    """The figures for the file."""
    kinds = sorted({call.kind for call in found.history.calls})
    return {
        **asdict(options),
        "trends": [asdict(one) for one in found.trends],
        "calls": {kind: dict(found.history.outcomes(kind)) for kind in kinds},
        "injected": [asdict(fault) for fault in found.faults],
        "preemptions": found.engine.total("naiad_num_preemptions_total"),
        "wrong": wrong,
    }


def main() -> None:
    """Soaks, prints tables and a verdict, writes JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--faults", action="store_true")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/out/soak.json"))
    arguments = parser.parse_args()
    options = Soak(arguments.minutes, arguments.clients, arguments.faults)
    with tempfile.TemporaryDirectory() as folder:
        found = soak(options, Path(folder))
    wrong = complaints(found)
    print(f"{machine()}\n{summary(found)}")
    print("verdict: " + ("; ".join(wrong[:20]) or f"all level and all well after {options.minutes:g} minutes"))
    write_report(arguments.output, report(options, found, wrong))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
