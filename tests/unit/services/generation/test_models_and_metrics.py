import asyncio
import urllib.request

import grpc
from naiad.v1 import generation_pb2 as pb

from tests.support.generation_stack import Stack, failure_of, says


async def test_models_are_listed_with_their_readiness(stack: Stack) -> None:
    chat, newcomer = (await stack.stub.ListModels(pb.GenerationServiceListModelsRequest())).models
    assert (chat.name, chat.ready, chat.has_chat_template) == ("chat", True, True)
    assert (newcomer.name, newcomer.ready, newcomer.has_chat_template) == ("newcomer", False, False)


async def test_a_model_that_triton_has_not_loaded_is_never_asked_of_it(stack: Stack) -> None:
    failure = await failure_of(stack.stub.Generate(pb.GenerateRequest(model="newcomer", text="x")))
    assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "ENGINE_UNAVAILABLE")
    assert not stack.fake.requests
    assert (await stack.stub.Generate(pb.GenerateRequest(model="chat", text="x"))).completions


async def test_frontend_metrics_move(stack: Stack) -> None:
    says(stack, "hello world")
    await stack.stub.Generate(pb.GenerateRequest(model="chat", text="x"))
    url = f"http://127.0.0.1:{stack.metrics_port}/metrics"
    page = await asyncio.to_thread(lambda: urllib.request.urlopen(url).read().decode())
    tokens = len(stack.tokenizer.encode_ids("hello world"))
    assert "naiad_triton_up 1.0" in page
    assert 'naiad_frontend_time_to_first_token_seconds_count{model="chat"} 1.0' in page
    assert f'naiad_frontend_inter_token_latency_seconds_count{{model="chat"}} {tokens - 1}.0' in page
    assert 'naiad_frontend_request_latency_seconds_count{model="chat"} 1.0' in page
    assert 'naiad_frontend_request_success_total{finished_reason="length",model="chat"} 1.0' in page
