"""Fine-tunes a BERT-like encoder as a classifier of tokens with the Hugging Face `Trainer`, and measures entities.

Imports torch and transformers, which takes seconds: import it only when there is something to train.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import AutoModelForTokenClassification, DataCollatorForTokenClassification, Trainer

from examples.classifier_training import freeze_below_top, load_with_new_head, save_checkpoint, trainer_arguments
from examples.entity_sentences import MarkedText, Span
from examples.training_record import TrainingOptions

LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG")
_IGNORED = -100  # what PyTorch's cross entropy leaves out


class EncodedMarks:
    """A map-style data set of token ids and label ids; special tokens have no label."""

    def __init__(self, texts: Sequence[MarkedText], tokenizer: Any, max_length: int) -> None:
        encoded = tokenizer([text.text for text in texts], truncation=True, max_length=max_length)
        self.encodings: list[Any] = encoded.encodings
        self._rows = [
            {"input_ids": encoding.ids, "labels": label_ids(encoding, text.spans)}
            for encoding, text in zip(encoded.encodings, texts, strict=True)
        ]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._rows[index]


def label_ids(encoding: Any, spans: Sequence[Span]) -> list[int]:
    """The label of each token: B- for the first of a name, I- for its others, also for those inside a word."""
    labels = []
    for (start, end), special in zip(encoding.offsets, encoding.special_tokens_mask, strict=True):
        span = next((span for span in spans if span.start <= start and end <= span.end), None)
        if special:
            labels.append(_IGNORED)
        elif span is None:
            labels.append(0)
        else:
            labels.append(LABELS.index(f"{'B' if start == span.start else 'I'}-{span.label}"))
    return labels


def spans_of(encoding: Any, labels: Sequence[int]) -> set[Span]:
    """Names in the labels of tokens: a word has its first token's label; I- of a new kind begins a name, too."""
    found: list[Span] = []
    word_before, open_label = None, ""
    for token, word in enumerate(encoding.word_ids):
        if word is None:
            continue
        start, end = encoding.offsets[token]
        if word == word_before:
            if open_label:
                found[-1] = Span(found[-1].start, end, open_label)
            continue
        word_before = word
        prefix, _, label = LABELS[labels[token]].partition("-")
        if prefix == "I" and label == open_label:
            found[-1] = Span(found[-1].start, end, label)
        elif label:
            found.append(Span(start, end, label))
        open_label = label
    return set(found)


def entity_scores(found: Sequence[set[Span]], expected: Sequence[set[Span]]) -> dict[str, float]:
    """F1 of whole names, bounds and kind exactly right, over all texts together; also of each kind."""
    kinds = sorted({label.partition("-")[2] for label in LABELS if label != "O"})

    def f1(kind: str | None) -> float:
        pairs = [
            ({s for s in got if kind in (None, s.label)}, {s for s in want if kind in (None, s.label)})
            for got, want in zip(found, expected, strict=True)
        ]
        right = sum(len(got & want) for got, want in pairs)
        total = sum(len(got) + len(want) for got, want in pairs)
        return round(2 * right / total, 4) if total else 1.0

    return {"all": f1(None), **{kind: f1(kind) for kind in kinds}}


def train_tokens(
    base: str,
    train: Sequence[MarkedText],
    held_out: Mapping[str, Sequence[MarkedText]],
    options: TrainingOptions,
    output: Path,
) -> dict[str, dict[str, float]]:
    """Trains, measures once on each held-out set after the last epoch, and saves model and tokenizer in `output`.

    Returns entity_scores of each set. Raises DataError as load_with_new_head does.
    """
    transformers.set_seed(options.seed)
    model, tokenizer = load_with_new_head(base, LABELS, AutoModelForTokenClassification, None)
    max_length = min(options.max_length_tokens, tokenizer.model_max_length, model.config.max_position_embeddings)
    if options.trained_layers is not None:
        freeze_below_top(model, options.trained_layers)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = Trainer(
            model=model,
            args=trainer_arguments(options, len(train), scratch),
            train_dataset=EncodedMarks(train, tokenizer, max_length),
            data_collator=DataCollatorForTokenClassification(tokenizer),
        )
        trainer.train()
    scores = {name: _measure(model, texts, tokenizer, max_length) for name, texts in held_out.items()}
    save_checkpoint(model, tokenizer, output)
    return scores


def _measure(model: Any, texts: Sequence[MarkedText], tokenizer: Any, max_length: int) -> dict[str, float]:
    encoded = EncodedMarks(texts, tokenizer, max_length)
    found = []
    model.eval()
    with torch.no_grad():
        for encoding in encoded.encodings:
            ids = torch.tensor([encoding.ids])
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
            found.append(spans_of(encoding, np.argmax(logits.numpy(), axis=1).tolist()))
    return entity_scores(found, [set(text.spans) for text in texts])
