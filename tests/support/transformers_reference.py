"""transformers in float32 on the checkpoint that `chat` was exported from: what every greedy output must equal."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

# Two sums of the same float32 numbers in another order differ by about 1e-4 in this model's logits. A prompt whose best
# two tokens are closer than this at any position proves nothing.
CLEAR_MARGIN = 1e-2


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """torch's threads wait for each other by spinning: beside anything else that runs, more of them are far slower."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class Continuation:
    """What transformers generates greedily."""

    tokens: tuple[int, ...]
    least_margin: float  # Between the logits of the best two tokens, over all positions.


class TransformersReference:
    """Computes every continuation once."""

    def __init__(self) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from exporters.demo import chat_checkpoint

        path = chat_checkpoint()
        where: dict[str, Any] = {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name}
        self._tokenizer = AutoTokenizer.from_pretrained(**where)
        self._model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32).eval()
        self._known: dict[tuple[tuple[int, ...], int, bool], Continuation] = {}

    def encode(self, text: str) -> list[int]:
        """Token ids of a prompt."""
        return list(self._tokenizer(text).input_ids)

    def greedy(self, prompt: Sequence[int], max_tokens: int, ignore_eos: bool = False) -> Continuation:
        """The new tokens, with the end token if there is one."""
        key = (tuple(prompt), max_tokens, ignore_eos)
        if key not in self._known:
            self._known[key] = self._generate(*key)
        return self._known[key]

    def _generate(self, prompt: tuple[int, ...], max_tokens: int, ignore_eos: bool) -> Continuation:
        import torch

        ids = torch.tensor([prompt])
        options: dict[str, Any] = {"eos_token_id": None} if ignore_eos else {}
        with _one_thread(), torch.inference_mode():
            output = self._model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=max_tokens,
                pad_token_id=self._model.config.eos_token_id,
                output_logits=True,
                return_dict_in_generate=True,
                **options,
            )
        best_two = torch.cat(output.logits).topk(2).values
        margins = best_two[:, 0] - best_two[:, 1]
        return Continuation(tuple(output.sequences[0, len(prompt) :].tolist()), float(margins.min()))
