"""A repository of two tiny encoders, and a Triton channel that computes them, for tests of the logic."""

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from services.common.errors import NaiadError
from services.common.infer_reply import InferReply
from tests.support.small_models import listed_file

LABELS = ("first", "sum", "length")
HIDDEN_SIZE = 3
CONTEXT_TOKENS = 6
CLS_ID, SEP_ID = 1, 2
WORDS = {"[UNK]": 0, "[CLS]": CLS_ID, "[SEP]": SEP_ID, "one": 11, "two": 12, "three": 13, "four": 14, "five": 15}


def write_repository(folder: Path) -> Path:
    """Models "sentiment" (classify) and "embed"; words cost a token each, special ones two (three for a pair)."""
    tokenizer = Tokenizer(models.WordLevel(WORDS, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", CLS_ID), ("[SEP]", SEP_ID)],
    )
    for name, task in (("sentiment", "classify"), ("embed", "embed"), ("chat", "generate")):
        entry = folder / name
        entry.mkdir(parents=True)
        tokenizer.save(str(entry / "tokenizer.json"))
        manifest: dict[str, Any] = {
            "format_version": 1,
            "name": name,
            "task": task,
            "architecture": "bert",
            "precision": "fp32",
            "limits": {"context_length_tokens": CONTEXT_TOKENS, "vocabulary_size": 16},
            "files": {"tokenizer": listed_file(entry / "tokenizer.json")},
        }
        if task != "generate":
            manifest["encoder"] = {
                "hidden_size": HIDDEN_SIZE,
                "pooling": "mean",
                "normalize": True,
                "uses_token_type_ids": True,
                "activation": "none",
            }
        if task == "classify":
            manifest["labels"] = list(LABELS)
        (entry / "naiad.json").write_text(json.dumps(manifest))
    return folder


@dataclass
class FakeChannel:
    """Computes, for token ids x and types y of a text, the vector [x[0], sum(x) + 100 * sum(y), number of tokens].

    The hidden state of a token is [its id, its type, its place]. `failure` is raised instead while it is set; `gate`
    holds answers back until it is set; `arrived` is set by each request.
    """

    failure: NaiadError | None = None
    gate: asyncio.Event | None = None
    requests: list[Any] = field(default_factory=list)
    most_in_flight: int = 0
    in_flight: int = 0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def infer(self, request: Any) -> InferReply:
        self.requests.append(request)
        self.in_flight += 1
        self.arrived.set()
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            # At least once to the loop, as a real call would.
            await asyncio.sleep(0)
            if self.gate is not None:
                await self.gate.wait()
        finally:
            self.in_flight -= 1
        if self.failure is not None:
            raise self.failure
        name = request.outputs[0].name
        number = len(self.requests)
        return InferReply({name: self.compute(request, name)}, {"queue_us": number, "compute_us": 10 * number}, True)

    @staticmethod
    def compute(request: Any, name: str) -> npt.NDArray[np.float32]:
        tensors = {
            tensor.name: np.frombuffer(raw, np.int32)
            for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)
        }
        bounds = np.cumsum(tensors["sequence_lengths"])[:-1]
        texts = np.split(tensors["input_ids"], bounds)
        types = np.split(tensors["token_type_ids"], bounds)
        if name == "hidden_states":
            rows = [
                [i, t, place]
                for x, y in zip(texts, types, strict=True)
                for place, (i, t) in enumerate(zip(x, y, strict=True))
            ]
        else:
            rows = [[x[0], x.sum() + 100 * y.sum(), len(x)] for x, y in zip(texts, types, strict=True)]
        return np.array(rows, np.float32)
