"""Trains a GPT-2 and its byte-level BPE from nothing.

Imports torch and transformers, which takes seconds: import it only when there is something to train.
"""

from __future__ import annotations

import importlib.metadata
import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from examples.train_gpt2 import Corpus, Recipe

_END_OF_TEXT = "<|endoftext|>"
_REPORT_STEPS = 100
_WARM_UP_SHARE = 0.05


def train_gpt2(corpus: Corpus, recipe: Recipe, output: Path) -> dict[str, Any]:
    """Trains, saves model and tokenizer in `output`; returns the record for `training.json`."""
    begin = time.perf_counter()
    torch.manual_seed(recipe.seed)
    tokenizer = _train_tokenizer(corpus, recipe)
    ids = torch.tensor([number for text in corpus.train for number in _encode(tokenizer, text)])
    print(f"{len(corpus.train)} files, {len(ids):,} tokens", flush=True)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=recipe.vocabulary_size,
            n_positions=recipe.context_length_tokens,
            n_embd=recipe.hidden_size,
            n_layer=recipe.layers,
            n_head=recipe.hidden_size // 64 or 1,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=0,
            eos_token_id=0,
        )
    )
    losses = list(_train(model, ids, recipe))
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    return {
        "format_version": 1,
        "dataset": {"name": "Python sources", "files": len(corpus.train), "tokens": len(ids)},
        **asdict(recipe),
        "trained_tokens": recipe.steps * recipe.batch_size * recipe.context_length_tokens,
        "last_training_loss": round(sum(losses[-_REPORT_STEPS:]) / len(losses[-_REPORT_STEPS:]), 3),
        "wall_seconds": round(time.perf_counter() - begin, 1),
        "versions": {package: importlib.metadata.version(package) for package in ("torch", "transformers")},
    }


def _train_tokenizer(corpus: Corpus, recipe: Recipe) -> Any:
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(
        corpus.train, vocab_size=recipe.vocabulary_size, special_tokens=[_END_OF_TEXT], show_progress=False
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer, bos_token=_END_OF_TEXT, eos_token=_END_OF_TEXT, pad_token=_END_OF_TEXT
    )


def _encode(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer.backend_tokenizer.encode(text).ids
    return [0, *ids]


def _train(model: Any, ids: torch.Tensor, recipe: Recipe) -> Iterator[float]:
    """One loss a step, in nats a token."""
    chance = torch.Generator().manual_seed(recipe.seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.95), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate_share(step, recipe.steps))
    model.train()
    for step in range(recipe.steps):
        starts = torch.randint(len(ids) - recipe.context_length_tokens, (recipe.batch_size,), generator=chance)
        batch = torch.stack([ids[start : start + recipe.context_length_tokens] for start in starts])
        # Half-precision products are twice as fast where the CPU has them; the weights stay float32.
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(input_ids=batch, labels=batch).loss
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % _REPORT_STEPS == 0:
            print(f"step {step} of {recipe.steps}: loss {loss.item():.3f}", flush=True)
        yield loss.item()


def _rate_share(step: int, steps: int) -> float:
    """Warm-up, then a cosine down to a tenth."""
    warm_up = max(1, int(steps * _WARM_UP_SHARE))
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.1 + 0.45 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))
