"""Which Triton gets a request: the least loaded, or the one that probably has the beginning of its prompt cached."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from services.common.triton_member import TritonMember


@dataclass(frozen=True)
class Affinity:
    """How many tokens of a prompt count, and how many tokens more a preferred Triton may have in flight."""

    prefix_tokens: int
    slack_tokens: int


def least_loaded(members: Sequence[TritonMember]) -> TritonMember:
    """The one with the fewest tokens in flight; of several, the one that was chosen longest ago."""
    return min(members, key=lambda member: (member.tokens_in_flight, member.last_turn))


def choose_by_prefix(members: Sequence[TritonMember], prefix: bytes, affinity: Affinity) -> TritonMember:
    """The one that `prefix` prefers, unless it has much more to do than another.

    Rendezvous hashing (Thaler and Ravishankar, 1998): when a Triton goes, only the prompts that preferred it move.
    """
    least = least_loaded(members)
    preferred = max(members, key=lambda member: _weight(prefix, member.endpoint))
    is_near = preferred.tokens_in_flight - least.tokens_in_flight <= affinity.slack_tokens
    return preferred if is_near else least


def _weight(prefix: bytes, endpoint: str) -> bytes:
    return hashlib.blake2b(prefix, digest_size=8, key=hashlib.blake2b(endpoint.encode()).digest()).digest()
