"""Whether a system's output makes sense: what it says of France, and how far it agrees with transformers in float32."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from benchmarks.loads import Ask, run
from benchmarks.systems.protocol import Request

NEW_TOKENS = 32
END_OF_TURN = "<|im_end|>"
QUESTIONS = (
    "Name the capital of France.",
    "Name three primary colours.",
    "How do bees make honey?",
    "Write one sentence about the sea.",
)


class SanityCheck:
    """Fixed questions in the chat format of the demo checkpoint, answered greedily."""

    def __init__(self, tokenizer: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        end_token = self._tokenizer.token_to_id(END_OF_TURN)
        if end_token is None:
            raise ValueError(f"{tokenizer}: no token {END_OF_TURN}, so this is not the demo checkpoint")
        self._end_token = end_token

    def answers(self, ask: Ask) -> list[list[int]]:
        """The first NEW_TOKENS tokens for each question, asked one by one. Raises ValueError if a request failed."""
        found = []
        for question in QUESTIONS:
            text = f"<|im_start|>user\n{question}{END_OF_TURN}\n<|im_start|>assistant\n"
            prompt = tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)
            (answer,) = run(ask, [Request(prompt, NEW_TOKENS)])
            if answer.error:
                raise ValueError(answer.error)
            found.append(answer.tokens)
        return found

    def verdict(
        self, answers: Sequence[Sequence[int]], reference: Sequence[Sequence[int]] | None
    ) -> dict[str, bool | float]:
        """`says_paris`: whether the first answer names the capital; `same_tokens`, if there is a reference: the share
        of its tokens that the answers repeat, 0 to 1."""
        verdict: dict[str, bool | float] = {"says_paris": "Paris" in self._tokenizer.decode(list(answers[0]))}
        if reference:
            verdict["same_tokens"] = same_tokens(answers, reference, self._end_token)
        return verdict


def same_tokens(answers: Sequence[Sequence[int]], reference: Sequence[Sequence[int]], end_token: int) -> float:
    """The share of the reference's tokens that are the same at the same place, 0 to 1.

    The reference counts up to its first `end_token`: what follows the end of a text is nobody's to agree on, and some
    systems forbid the token where others go on after it.
    """
    reference = [list(itertools.takewhile(end_token.__ne__, tokens)) for tokens in reference]
    same = sum(a == b for ours, theirs in zip(answers, reference, strict=True) for a, b in zip(ours, theirs))  # noqa: B905
    return same / sum(map(len, reference))
