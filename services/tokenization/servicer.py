"""naiad.v1.TokenizationService over gRPC: messages in, logic, messages out."""

from typing import Any

import grpc
from naiad.v1 import tokenization_pb2 as pb
from naiad.v1 import tokenization_pb2_grpc

from services.common.call import current_call, may_use_model, note_in_log
from services.common.chat_template import Message
from services.common.errors import NaiadError
from services.common.model_info import model_info
from services.common.status import status_message
from services.common.tokenizer import Encoded
from services.tokenization.logic import TokenizationLogic, TokenizeOptions

_Context = grpc.aio.ServicerContext[Any, Any]


class TokenizationServicer(tokenization_pb2_grpc.TokenizationServiceServicer):
    """Translates between messages and TokenizationLogic."""

    def __init__(self, logic: TokenizationLogic) -> None:
        self._logic = logic

    async def Tokenize(self, request: pb.TokenizeRequest, context: _Context) -> pb.TokenizeResponse:
        options = TokenizeOptions(
            add_special_tokens=request.add_special_tokens if request.HasField("add_special_tokens") else True,
            max_length=request.max_length if request.HasField("max_length") else None,
        )
        call = current_call()
        note_in_log(texts=len(request.texts))
        outcomes = await self._logic.tokenize(request.model, request.texts, options)
        response = pb.TokenizeResponse()
        for outcome in outcomes:
            result = response.results.add()
            if isinstance(outcome, NaiadError):
                result.error.CopyFrom(status_message(outcome, call.request_id, call.trace.trace_id))
            else:
                _fill(result.tokenization, outcome, request)
        return response

    async def Detokenize(self, request: pb.DetokenizeRequest, context: _Context) -> pb.DetokenizeResponse:
        note_in_log(sequences=len(request.sequences))
        skip = request.skip_special_tokens if request.HasField("skip_special_tokens") else True
        sequences = [sequence.ids for sequence in request.sequences]
        return pb.DetokenizeResponse(texts=await self._logic.detokenize(request.model, sequences, skip))

    async def CountTokens(self, request: pb.CountTokensRequest, context: _Context) -> pb.CountTokensResponse:
        note_in_log(texts=len(request.texts))
        special = request.add_special_tokens if request.HasField("add_special_tokens") else True
        return pb.CountTokensResponse(counts=await self._logic.count(request.model, request.texts, special))

    async def ApplyChatTemplate(
        self, request: pb.ApplyChatTemplateRequest, context: _Context
    ) -> pb.ApplyChatTemplateResponse:
        note_in_log(messages=len(request.messages))
        messages = [Message(message.role, message.content) for message in request.messages]
        prompt = request.add_generation_prompt if request.HasField("add_generation_prompt") else True
        chat = await self._logic.apply_chat_template(request.model, messages, prompt)
        return pb.ApplyChatTemplateResponse(text=chat.text, token_ids=chat.token_ids)

    async def ListModels(
        self, request: pb.TokenizationServiceListModelsRequest, context: _Context
    ) -> pb.TokenizationServiceListModelsResponse:
        models = await self._logic.loaded_models()
        return pb.TokenizationServiceListModelsResponse(
            models=[model_info(model.entry, ready=True) for model in models if may_use_model(model.entry.name)]
        )


def _fill(target: pb.Tokenization, encoded: Encoded, request: pb.TokenizeRequest) -> None:
    target.token_ids.extend(encoded.ids)
    target.truncated = encoded.truncated
    if request.return_tokens:
        target.tokens.extend(encoded.tokens)
    if request.return_offsets:
        target.offsets.extend(pb.TokenOffset(start=start, end=end) for start, end in encoded.offsets)
