from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from naiad.v1 import common_pb2, tokenization_pb2_grpc
from naiad.v1 import tokenization_pb2 as pb

from services.common.settings import TokenizationSettings
from services.tokenization.app import build
from tests.support.running_service import running
from tests.support.small_models import CHAT_TEMPLATE, bert_tokenizer, byte_level_tokenizer, write_model

MEBIBYTE = 1024 * 1024
Stub = tokenization_pb2_grpc.TokenizationServiceStub


@pytest.fixture
async def stub(tmp_path: Path) -> AsyncIterator[Stub]:
    write_model(tmp_path, "chat", "generate", byte_level_tokenizer(), chat_template=CHAT_TEMPLATE)
    write_model(tmp_path, "embed", "embed", bert_tokenizer())
    (write_model(tmp_path, "broken", "embed", bert_tokenizer()) / "tokenizer.json").write_text("{")
    settings = TokenizationSettings(model_repository=tmp_path)
    async with running(build(settings), settings) as (_, channel):
        yield Stub(channel)


async def error_of(call: Awaitable[object]) -> tuple[grpc.StatusCode, list[str]]:
    """Status and the wrong fields of a call that fails."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    metadata = dict(caught.value.trailing_metadata() or ())
    status = status_pb2.Status.FromString(metadata["grpc-status-details-bin"])
    bad_request = error_details_pb2.BadRequest()
    fields = [v.field for d in status.details if d.Unpack(bad_request) for v in bad_request.field_violations]
    return caught.value.code(), fields


async def test_tokenize_gives_ids_strings_and_places(stub: Stub) -> None:
    request = pb.TokenizeRequest(
        model="embed", texts=["hello world", "", "好 a"], return_tokens=True, return_offsets=True
    )
    first, second, third = [result.tokenization for result in (await stub.Tokenize(request)).results]
    assert list(first.tokens) == ["[CLS]", "hello", "world", "[SEP]"]
    assert [(offset.start, offset.end) for offset in first.offsets] == [(0, 0), (0, 5), (6, 11), (0, 0)]
    assert list(second.token_ids) == [2, 3]
    assert [(offset.start, offset.end) for offset in third.offsets] == [(0, 0), (0, 1), (2, 3), (0, 0)]


async def test_tokenize_leaves_out_what_was_not_asked_for(stub: Stub) -> None:
    request = pb.TokenizeRequest(model="embed", texts=["hello world"], add_special_tokens=False, max_length=1)
    (result,) = (await stub.Tokenize(request)).results
    assert list(result.tokenization.token_ids) == [4]
    assert result.tokenization.truncated
    assert not result.tokenization.tokens
    assert not result.tokenization.offsets


async def test_one_text_that_is_too_long_does_not_fail_the_others(stub: Stub) -> None:
    request = pb.TokenizeRequest(model="embed", texts=["hello", "中" * (MEBIBYTE // 3 + 1), "world"])
    results = (await stub.Tokenize(request)).results
    assert [result.WhichOneof("outcome") for result in results] == ["tokenization", "error", "tokenization"]
    assert results[1].error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    info = error_details_pb2.ErrorInfo()
    assert results[1].error.details[0].Unpack(info)
    assert info.reason == "INVALID_FIELD"
    assert list(results[2].tokenization.token_ids) == [2, 5, 3]


async def test_a_text_of_a_mebibyte_passes(stub: Stub) -> None:
    (result,) = (await stub.Tokenize(pb.TokenizeRequest(model="chat", texts=["ab " * (MEBIBYTE // 3)]))).results
    assert len(result.tokenization.token_ids) > 100_000


async def test_texts_come_back_from_their_tokens(stub: Stub) -> None:
    texts = ["hello world", "你好 👨‍👩‍👧", "e\u0301 हिन्दी", ""]
    tokenized = await stub.Tokenize(pb.TokenizeRequest(model="chat", texts=texts))
    sequences = [common_pb2.TokenIds(ids=result.tokenization.token_ids) for result in tokenized.results]
    assert list((await stub.Detokenize(pb.DetokenizeRequest(model="chat", sequences=sequences))).texts) == texts


async def test_detokenize_hides_special_tokens_unless_told_otherwise(stub: Stub) -> None:
    sequences = [common_pb2.TokenIds(ids=[0, 1])]
    hidden = await stub.Detokenize(pb.DetokenizeRequest(model="chat", sequences=sequences))
    shown = await stub.Detokenize(pb.DetokenizeRequest(model="chat", sequences=sequences, skip_special_tokens=False))
    assert (list(hidden.texts), list(shown.texts)) == ([""], ["<s></s>"])


async def test_counts_equal_the_tokens(stub: Stub) -> None:
    request = pb.CountTokensRequest(model="embed", texts=["hello world", ""])
    assert list((await stub.CountTokens(request)).counts) == [4, 2]
    request.add_special_tokens = False
    assert list((await stub.CountTokens(request)).counts) == [2, 0]


async def test_a_chat_is_rendered_and_tokenized(stub: Stub) -> None:
    request = pb.ApplyChatTemplateRequest(model="chat", messages=[common_pb2.ChatMessage(role="user", content="hello")])
    response = await stub.ApplyChatTemplate(request)
    assert response.text == "<|user|>hello</s><|assistant|>"
    back = pb.DetokenizeRequest(
        model="chat", sequences=[common_pb2.TokenIds(ids=response.token_ids)], skip_special_tokens=False
    )
    assert list((await stub.Detokenize(back)).texts) == [response.text]
    request.add_generation_prompt = False
    assert (await stub.ApplyChatTemplate(request)).text == "<|user|>hello</s>"


async def test_models_are_listed_with_what_they_are(stub: Stub) -> None:
    models = (await stub.ListModels(pb.TokenizationServiceListModelsRequest())).models
    assert [(model.name, model.task, model.has_chat_template, model.ready) for model in models] == [
        ("chat", common_pb2.MODEL_TASK_GENERATE, True, True),
        ("embed", common_pb2.MODEL_TASK_EMBED, False, True),
    ]


async def test_wrong_requests_name_the_field(stub: Stub) -> None:
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    message = common_pb2.ChatMessage
    cases = [
        (stub.Tokenize(pb.TokenizeRequest(model="embed")), ["texts"]),
        (stub.Tokenize(pb.TokenizeRequest(model="embed", texts=[""] * 10_001)), ["texts"]),
        (stub.Tokenize(pb.TokenizeRequest(model="embed", texts=["a"], max_length=0)), ["max_length"]),
        (stub.CountTokens(pb.CountTokensRequest(model="embed")), ["texts"]),
        (stub.CountTokens(pb.CountTokensRequest(model="embed", texts=["a", "a" * (MEBIBYTE + 1)])), ["texts[1]"]),
        (stub.Detokenize(pb.DetokenizeRequest(model="chat")), ["sequences"]),
        (
            stub.Detokenize(pb.DetokenizeRequest(model="chat", sequences=[common_pb2.TokenIds(ids=[1, -5])])),
            ["sequences[0].ids[1]"],
        ),
        (stub.ApplyChatTemplate(pb.ApplyChatTemplateRequest(model="chat")), ["messages"]),
        (
            stub.ApplyChatTemplate(
                pb.ApplyChatTemplateRequest(model="chat", messages=[message(role="user"), message(role="robot")])
            ),
            ["messages[1].role"],
        ),
    ]
    for call, fields in cases:
        assert await error_of(call) == (invalid, fields)


async def test_wrong_models_are_told_apart(stub: Stub) -> None:
    assert await error_of(stub.Tokenize(pb.TokenizeRequest(model="none", texts=["a"]))) == (
        grpc.StatusCode.NOT_FOUND,
        [],
    )
    chat = pb.ApplyChatTemplateRequest(model="embed", messages=[common_pb2.ChatMessage(role="user")])
    assert await error_of(stub.ApplyChatTemplate(chat)) == (grpc.StatusCode.FAILED_PRECONDITION, [])
    assert await error_of(stub.Tokenize(pb.TokenizeRequest(model="broken", texts=["a"]))) == (
        grpc.StatusCode.INTERNAL,
        [],
    )
