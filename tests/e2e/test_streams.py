"""Streams of text: order of events, whole characters, stops, clients that leave."""

import threading

import grpc
import pytest
from naiad.v1 import generation_pb2, generation_pb2_grpc

from tests.e2e.test_metrics import scrape, total
from tests.support.stack import Stack

pytestmark = pytest.mark.e2e


def stub(stack: Stack) -> generation_pb2_grpc.GenerationServiceStub:
    return generation_pb2_grpc.GenerationServiceStub(stack.channel("generation"))


def greedy(text: str, max_tokens: int, **stopping: object) -> generation_pb2.GenerateStreamRequest:
    request = generation_pb2.GenerateStreamRequest(model="chat", text=text)
    request.sampling.temperature = 0
    request.stopping.MergeFrom(generation_pb2.StoppingOptions(max_tokens=max_tokens, **stopping))
    request.response.return_token_ids = True
    return request


@pytest.mark.parametrize(
    "text",
    [
        "请用中文写一首关于春天的诗。春天来了，",
        "Emoji family: 👩‍👩‍👧‍👦 👩‍👩‍👧‍👦 👩‍👩‍👧‍👦 👩‍👩‍👧‍👦",
        "Combining: é ë ñ é ë ñ é ë ñ",
        "हिन्दी में लिखो: नमस्ते दुनिया, नमस्ते",
    ],
)
def test_streamed_text_is_always_whole_characters(stack: Stack, text: str) -> None:
    request = greedy(text, 40, ignore_eos=True)
    events = list(stub(stack).GenerateStream(request, timeout=60))
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds[0] == "started" and kinds[-2:] == ["finished", "summary"] and set(kinds[1:-2]) == {"delta"}
    pieces = [event.delta.text for event in events]
    unary = generation_pb2.GenerateRequest.FromString(request.SerializeToString())
    whole = stub(stack).Generate(unary, timeout=60).completions[0]
    assert "".join(pieces) == whole.text
    assert [token for event in events for token in event.delta.token_ids] == list(whole.token_ids)
    # Half a character would show as a replacement character in a piece that the whole text does not have.
    assert sum(piece.count("\ufffd") for piece in pieces) == whole.text.count("\ufffd")
    assert len(pieces) > 10


def test_nothing_after_a_stop_text_is_sent(stack: Stack) -> None:
    free = "".join(event.delta.text for event in stub(stack).GenerateStream(greedy("1, 2, 3, 4,", 24), timeout=60))
    stop = free[len(free) // 2 : len(free) // 2 + 4]
    events = list(stub(stack).GenerateStream(greedy("1, 2, 3, 4,", 24, stop=[stop]), timeout=60))
    assert "".join(event.delta.text for event in events) == free[: free.index(stop)]
    finished = next(event.finished for event in events if event.HasField("finished"))
    assert finished.finish_reason == generation_pb2.FINISH_REASON_STOP and finished.stop_match.text == stop


def _wait_for_running(stack: Stack, count: int) -> None:
    """The engine reports its load at the end of a step, a moment after the tokens of that step are on their way."""
    for _ in range(200):
        if total(scrape(stack.metrics_ports["triton"]), "naiad_num_requests_running") == count:
            return
    raise AssertionError(f"the engine should be running {count} requests")


def test_a_client_that_leaves_frees_its_work(stack: Stack) -> None:
    call = stub(stack).GenerateStream(greedy("Tell a long story.", 1500, ignore_eos=True), timeout=60)
    next(event for event in call if event.HasField("delta"))
    _wait_for_running(stack, 1)
    call.cancel()
    _wait_for_running(stack, 0)


def test_a_deadline_ends_the_work(stack: Stack) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        list(stub(stack).GenerateStream(greedy("Tell a long story.", 1500, ignore_eos=True), timeout=1.0))
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    _wait_for_running(stack, 0)


def test_the_same_seed_gives_the_same_text_alone_and_in_company(stack: Stack) -> None:
    request = greedy("Once upon a time", 24)
    request.sampling.temperature, request.sampling.seed = 0.9, 7

    def text() -> str:
        return "".join(event.delta.text for event in stub(stack).GenerateStream(request, timeout=60))

    alone = text()
    results: list[str] = []
    threads = [threading.Thread(target=lambda: results.append(text())) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [alone] * 6


def test_what_can_never_fit_is_refused_with_its_field(stack: Stack) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        list(stub(stack).GenerateStream(greedy("Hello", 1_000_000), timeout=10))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "max_tokens" in str(caught.value.details())
