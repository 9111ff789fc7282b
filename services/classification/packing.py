"""Which texts go to Triton together."""

from collections.abc import Sequence


def split_into_packs(lengths: Sequence[int], max_tokens: int) -> list[range]:
    """Neighbouring texts, given by their lengths in tokens, in packs of at most `max_tokens`.

    A text that is longer by itself gets a pack of its own. There is no padding, so neighbours need not be alike.
    """
    packs = []
    start = tokens = 0
    for index, length in enumerate(lengths):
        if index > start and tokens + length > max_tokens:
            packs.append(range(start, index))
            start, tokens = index, 0
        tokens += length
    if start < len(lengths):
        packs.append(range(start, len(lengths)))
    return packs
