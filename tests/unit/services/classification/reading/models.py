"""A repository of tiny models that label tokens, rank, judge and embed, and what they compute.

A word is a token; [CLS] and [SEP] are put around a text, and another [SEP] after the second one of a pair.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from tests.support.fake_triton import infer_response
from tests.support.small_models import write_model

CONTEXT_TOKENS = 12
CLS_ID, SEP_ID = 1, 2
WORDS = ("ada", "lovelace", "paris", "new", "york", "saw", "and", "the", "cat", "dog", "about", "cats", "dogs")
VOCABULARY = {"[UNK]": 0, "[CLS]": CLS_ID, "[SEP]": SEP_ID, **{word: 10 + i for i, word in enumerate(WORDS)}}
HIDDEN_SIZE = 10 + len(WORDS)
TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
TAG_OF_WORD = {"ada": 1, "lovelace": 2, "paris": 3, "new": 3, "york": 4}
NLI_LABELS = ("contradiction", "neutral", "Entailment")
_ENCODER = {
    "hidden_size": HIDDEN_SIZE,
    "pooling": "mean",
    "normalize": True,
    "uses_token_type_ids": True,
    "activation": "softmax",
}


def tokenizer() -> Tokenizer:
    """The tokenizer of all of them."""
    made = Tokenizer(models.WordLevel(VOCABULARY, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", CLS_ID), ("[SEP]", SEP_ID)],
    )
    return made


def write_repository(folder: Path) -> Path:
    """Models tagger, ranker, two_sided, nli, plain (a classifier of none of these kinds), embed and chat."""
    labels = {
        "tagger": TAGS,
        "ranker": ("LABEL_0",),
        "two_sided": ("irrelevant", "Relevant"),
        "nli": NLI_LABELS,
        "plain": ("bad", "good"),
    }
    for name, names in labels.items():
        task = "classify_tokens" if name == "tagger" else "classify"
        changes = {"encoder": _ENCODER, "labels": list(names)}
        write_model(folder, name, task, tokenizer(), context_length_tokens=CONTEXT_TOKENS, changes=changes)
    write_model(
        folder, "embed", "embed", tokenizer(), context_length_tokens=CONTEXT_TOKENS, changes={"encoder": _ENCODER}
    )
    write_model(folder, "chat", "generate", tokenizer())
    return folder


def answer(request: Any) -> Any:
    """What Triton answers to a request for one of the models."""
    tensors = {
        tensor.name: np.frombuffer(raw, np.int32)
        for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)
    }
    bounds = np.cumsum(tensors["sequence_lengths"])[:-1]
    texts = np.split(tensors["input_ids"], bounds)
    types = np.split(tensors["token_type_ids"], bounds)
    name = request.outputs[0].name
    rows = np.concatenate([_compute(request.model_name, x, y) for x, y in zip(texts, types, strict=True)])
    if name == "hidden_states":
        rows = np.repeat(rows, tensors["sequence_lengths"], axis=0)
    return infer_response(request.id, {name: rows.astype(np.float32)}, {"queue_us": 30, "compute_us": 400}, final=True)


def _compute(model: str, ids: npt.NDArray[np.int32], types: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
    if model == "tagger":
        tags = {VOCABULARY[word]: tag for word, tag in TAG_OF_WORD.items()}
        return np.array([np.eye(len(TAGS))[tags.get(int(token), 0)] * 4 for token in ids])
    words = ids >= 10
    if model == "embed":  # a bag of words
        return np.bincount(ids[words], minlength=HIDDEN_SIZE)[None, :].astype(np.float64)
    first, second = set(ids[words & (types == 0)].tolist()), set(ids[words & (types == 1)].tolist())
    common = len(first & second)
    return np.array(
        [
            {
                "ranker": [common],
                "two_sided": [-common, common],
                "nli": [2 - 2 * common, 0, 2 * common],
                "plain": [0, 1],
            }[model]
        ],
        np.float64,
    )
