"""Bulk classification on the real stack: through the stream itself, and by the command, killed and started again."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from naiad.v1 import classification_pb2 as pb
from naiad.v1 import classification_pb2_grpc

from services.cli.bulk.output import journal_of
from tests.support.bulk_files import check_results, write_texts
from tests.support.stack import REPOSITORY_ROOT, Stack

pytestmark = pytest.mark.e2e

ITEMS = 5_000
GROWTH_LIMIT_BYTES = 24 << 20


@pytest.fixture
def stub(stack: Stack) -> classification_pb2_grpc.ClassificationServiceStub:
    return classification_pb2_grpc.ClassificationServiceStub(stack.channel("classification"))


def service_process(stack: Stack) -> psutil.Process:
    children = psutil.Process(stack.process.pid).children(recursive=True)
    return next(child for child in children if "services.classification" in child.cmdline())


def test_thousands_of_items_are_answered_in_order_in_level_memory(
    stack: Stack, stub: classification_pb2_grpc.ClassificationServiceStub
) -> None:
    chance = random.Random(1)
    words = ["good", "bad", "film", "story", "not", "very"]

    def requests() -> Iterator[pb.ClassifyStreamRequest]:
        yield pb.ClassifyStreamRequest(options=pb.ClassifyStreamOptions(model="sentiment", top_k=1))
        sent = 0
        while sent < ITEMS:
            count = min(ITEMS - sent, chance.randint(1, 60))
            items = [
                pb.ClassifyStreamItem(id=str(sent + i), text=" ".join(chance.choices(words, k=chance.randint(1, 6))))
                for i in range(count)
            ]
            sent += count
            yield pb.ClassifyStreamRequest(items=items)

    process = service_process(stack)
    answered, early_bytes = 0, 0
    for response in stub.ClassifyStream(requests(), timeout=300):
        for result in response.results:
            assert (result.index, result.id) == (answered, str(answered))
            assert result.result.classification.scores[0].label in ("negative", "positive")
            answered += 1
        if not early_bytes and answered > ITEMS // 4:
            early_bytes = process.memory_info().rss
    assert answered == ITEMS
    assert process.memory_info().rss - early_bytes < GROWTH_LIMIT_BYTES


HARD = {
    "empty": "",
    "spaces": " \t ",
    "zero width": "\u200b\ufeff\u200d",
    "right to left": "\u202eفيلم رائع جدا",
    "emoji": "👩‍👩‍👧‍👦" * 50,
    "nul": "a\x00b",
    "long": "good " * 20_000,
    "a megabyte": "a" * (1024 * 1024),
    "too large": "a" * (1024 * 1024 + 1),
}


def test_hard_texts_answer_each_for_itself(stub: classification_pb2_grpc.ClassificationServiceStub) -> None:
    items = [pb.ClassifyStreamItem(id=name, text=text) for name, text in HARD.items()]
    start = pb.ClassifyStreamRequest(options=pb.ClassifyStreamOptions(model="sentiment"))
    requests = [start, *(pb.ClassifyStreamRequest(items=[item]) for item in items)]
    results = [one for response in stub.ClassifyStream(iter(requests), timeout=120) for one in response.results]
    assert [one.id for one in results] == list(HARD)
    failed = {one.id: one.result.error.message for one in results if one.result.HasField("error")}
    assert set(failed) == {"long", "too large"}  # a megabyte without a space is one unknown word
    alone = stub.Classify(pb.ClassifyRequest(model="sentiment", texts=list(HARD.values())[:6]))
    for one, expected in zip(results, alone.results, strict=False):
        assert one.result == expected


def test_a_long_text_is_read_in_windows(stub: classification_pb2_grpc.ClassificationServiceStub) -> None:
    def logits(texts: list[str], **options: Any) -> list[dict[str, float]]:
        request = pb.ClassifyRequest(model="sentiment", texts=texts, activation=pb.ACTIVATION_NONE, **options)
        results = stub.Classify(request, timeout=120).results
        return [{score.label: score.score for score in result.classification.scores} for result in results]

    # 1,000 tokens in windows of 510 that share 64: tokens 0 to 510, 446 to 956, 892 to 1,000, of which 510, 446 and 44
    # are new. A window is read as its own text would be.
    parts = logits(["film " * 510, "film " * 510, "film " * 108])
    short, long = logits(["A dull film.", "film " * 1_000], window_overlap_tokens=64)
    assert short == logits(["A dull film."])[0]
    for label, score in long.items():
        shares = zip(parts, (510, 446, 44), strict=True)
        assert score == pytest.approx(sum(part[label] * share for part, share in shares) / 1_000, abs=1e-4)

    options = pb.ClassifyStreamOptions(model="sentiment", activation=pb.ACTIVATION_NONE, window_overlap_tokens=64)
    item = pb.ClassifyStreamItem(text="film " * 1_000)
    stream = stub.ClassifyStream(iter([pb.ClassifyStreamRequest(options=options, items=[item])]), timeout=120)
    ((streamed,),) = [message.results for message in stream]
    assert {score.label: score.score for score in streamed.result.classification.scores} == long
    assert streamed.result.classification.tokens == 1_002


def test_a_killed_command_goes_on_without_loss_or_repetition(stack: Stack, tmp_path: Path) -> None:
    source, output = tmp_path / "texts.csv", tmp_path / "scored.csv"
    write_texts(source, 6_000)
    command = [sys.executable, "-m", "services.cli.main", "classify", str(source), "--output", str(output)]
    for _ in range(2):
        before = committed_rows(output)
        process = subprocess.Popen(command, cwd=REPOSITORY_ROOT, env=stack.environment, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 100
        while process.poll() is None and time.monotonic() < deadline and committed_rows(output) == before:
            os.sched_yield()
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.returncode == -signal.SIGKILL, "it ended before it could be killed"
        assert committed_rows(output) > before
    committed = committed_rows(output)
    done = stack.run_cli("classify", str(source), "--output", str(output))
    assert done.returncode == 0, done.stderr
    assert f"going on after row {committed}" in done.stderr
    assert check_results(source, output) == 6_000
    assert not journal_of(output).exists()


def committed_rows(output: Path) -> int:
    """How many rows the journal promises: bytes of the output that no commit covers are cut off by the next run."""
    journal = journal_of(output)  # replaced as a whole, so it can be read at any time
    return int(json.loads(journal.read_text(encoding="utf-8"))["checkpoint"]["rows"]) if journal.exists() else 0
