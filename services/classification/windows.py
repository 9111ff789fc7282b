"""Texts longer than the model's limit, read in overlapping windows."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """One window of a text's tokens, special ones not counted; ranges of their places from 0.

    `owned` are the tokens that lie farther from an edge here than in any other window: those of all windows are the
    whole text, each token once. `new` are the tokens that no window before had.
    """

    tokens: range
    owned: range
    new: range


def plan_windows(token_count: int, max_tokens: int, overlap_tokens: int) -> list[Window]:
    """Windows of at most `max_tokens` that each share `overlap_tokens` with the one before, and cover the text.

    The beginning and the end of the text are no edges: nothing is cut off there. `token_count` from 0 (then there is
    one empty window), `overlap_tokens` from 0 to less than `max_tokens`. Raises ValueError.
    """
    if token_count < 0 or not 0 <= overlap_tokens < max_tokens:
        raise ValueError(f"{token_count} tokens cannot be cut by {max_tokens} with an overlap of {overlap_tokens}")
    windows: list[Window] = []
    step = max_tokens - overlap_tokens
    start = owned_start = new_start = 0
    while True:
        end = min(start + max_tokens, token_count)
        # Halfway through what is shared with the next window, a token is as far from this one's end as from that
        # one's start.
        owned_end = token_count if end == token_count else (start + step + end + 1) // 2
        windows.append(Window(range(start, end), range(owned_start, owned_end), range(new_start, end)))
        if end == token_count:
            return windows
        start, owned_start, new_start = start + step, owned_end, end
