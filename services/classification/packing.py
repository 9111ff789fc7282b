"""Which texts of which waiting calls go to Triton together."""

from collections.abc import Sequence
from typing import TypeVar


class WaitingTexts:
    """The texts of one call by their lengths in tokens; those from `next_text` on still wait, in order."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self.lengths = lengths
        self.next_text = 0

    @property
    def is_waiting(self) -> bool:
        """Whether any text still waits."""
        return self.next_text < len(self.lengths)

    def take(self, room: int, at_least_one: bool = False) -> int:
        """Takes as many texts as have at most `room` tokens together; returns how many tokens those have."""
        tokens = 0
        while self.next_text < len(self.lengths):
            length = self.lengths[self.next_text]
            if tokens + length > room and not at_least_one:
                break
            tokens += length
            self.next_text += 1
            at_least_one = False
        return tokens


WaitingT = TypeVar("WaitingT", bound=WaitingTexts)


def fill_pack(waiting: Sequence[WaitingT], max_tokens: int) -> list[tuple[WaitingT, range]]:
    """Takes the texts of the next pack, at most `max_tokens`: of each call, the places of some neighbours.

    Every call gets an equal share of the pack, so that a short one need not wait until a long one is done; what is left
    goes to those that came first. The first call gets on in any case: a text that is longer than a pack goes alone.
    There is no padding, so texts need not be alike.
    """
    firsts = [call.next_text for call in waiting]
    room = max_tokens
    share = room // len(waiting)
    for of_each in (share, max_tokens) if len(waiting) > 1 else (max_tokens,):
        for call in waiting:
            room -= call.take(min(of_each, room), at_least_one=room == max_tokens)
            if room <= 0:
                break
    return [
        (call, range(first, call.next_text))
        for call, first in zip(waiting, firsts, strict=True)
        if call.next_text > first
    ]
