"""A tiny random BERT and a small table of texts whose label a single word gives away."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, set_seed

PLAIN_WORDS = ("the", "film", "plot", "cast", "a", "was", "and", "score")
TELLING_WORDS = {"negative": ("dull", "poor"), "positive": ("warm", "fine")}


@pytest.fixture(autouse=True, scope="session")
def one_torch_thread() -> Iterator[None]:
    """The models are so small that a second thread is only waited for, the longer the busier the machine is."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bases") / "tiny-bert"
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        *PLAIN_WORDS,
        *(word for pair in TELLING_WORDS.values() for word in pair),
    ]
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=8)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=32,
    ).save_pretrained(folder)
    set_seed(0)
    BertModel(
        BertConfig(
            vocab_size=len(words),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=32,
        )
    ).save_pretrained(folder)
    return folder


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """160 distinct rows under the header `body,verdict`."""
    generator = random.Random(0)
    rows: dict[str, str] = {}
    while len(rows) < 160:
        label = generator.choice(sorted(TELLING_WORDS))
        words = [*generator.choices(PLAIN_WORDS, k=generator.randint(3, 10)), generator.choice(TELLING_WORDS[label])]
        generator.shuffle(words)
        rows[" ".join(words)] = label
    path = tmp_path / "reviews.csv"
    path.write_text("body,verdict\n" + "".join(f"{text},{label}\n" for text, label in rows.items()), encoding="utf-8")
    return path
