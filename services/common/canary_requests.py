"""The smallest request that makes a model infer: one token of a decoder, one token's vector or logits of an encoder."""

import numpy as np

from services.common.call import new_request_id
from services.common.canary import Ask
from services.common.infer_reply import Array, ParameterValue
from services.common.registry import ModelEntry, ModelRegistry, Task
from services.common.triton_client import TritonChannel, TritonStream
from services.common.triton_messages import infer_request

# Behind nobody: it is one token, and would otherwise report how long the queue is.
_HIGHEST_PRIORITY = 100
_DECODER_PARAMETERS: dict[str, ParameterValue] = {
    "request_output_len": 1,
    "ignore_eos": True,
    "request_priority": _HIGHEST_PRIORITY,
}
# Every vocabulary has it, and what it means does not matter.
_ANY_TOKEN = np.zeros(1, np.int32)


def ask_decoder(stream: TritonStream) -> Ask:
    """Asks decoders on `stream`."""

    async def ask(model: str) -> None:
        request = stream.submit(model, {"input_ids": _ANY_TOKEN}, _DECODER_PARAMETERS)
        try:
            while not (await request.next_replies())[-1].final:
                pass
        finally:
            request.close()

    return ask


def ask_encoder(channel: TritonChannel, registry: ModelRegistry) -> Ask:
    """Asks encoders on `channel`."""

    async def ask(model: str) -> None:
        entry = registry.get(model)
        await channel.infer(infer_request(model, new_request_id(), _encoder_inputs(entry), {}, (_output(entry),)))

    return ask


def _encoder_inputs(entry: ModelEntry) -> dict[str, Array]:
    inputs: dict[str, Array] = {"input_ids": _ANY_TOKEN, "sequence_lengths": np.ones(1, np.int32)}
    if entry.uses_token_type_ids:
        inputs["token_type_ids"] = np.zeros(1, np.int32)
    return inputs


def _output(entry: ModelEntry) -> str:
    return "embeddings" if entry.task is Task.EMBED else "logits"
