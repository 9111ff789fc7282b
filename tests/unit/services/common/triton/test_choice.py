from collections import Counter
from dataclasses import dataclass
from typing import cast

from services.common.triton_choice import Affinity, choose_by_prefix, least_loaded
from services.common.triton_member import FAILURES_REMEMBERED_S, MemberOptions, TritonMember

PLENTY = Affinity(prefix_tokens=64, slack_tokens=1_000_000)


@dataclass
class Load:
    """What a choice sees of a Triton."""

    endpoint: str
    tokens_in_flight: int = 0
    last_turn: int = 0


def members(count: int) -> list[TritonMember]:
    return [cast(TritonMember, Load(f"10.0.0.{number}:8001")) for number in range(count)]


def test_the_least_loaded_one_is_chosen_and_of_equals_the_one_that_has_waited_longest() -> None:
    first, second, third = those = members(3)
    first.tokens_in_flight, second.last_turn, third.last_turn = 10, 2, 1
    assert least_loaded(those) is third
    third.tokens_in_flight = 11
    assert least_loaded(those) is second


def test_a_prefix_keeps_its_triton_and_prefixes_spread_over_all() -> None:
    those = members(4)
    chosen = {number: choose_by_prefix(those, b"%d" % number, PLENTY).endpoint for number in range(1000)}
    again = {number: choose_by_prefix(those[::-1], b"%d" % number, PLENTY).endpoint for number in range(1000)}
    assert chosen == again
    assert min(Counter(chosen.values()).values()) > 150


def test_only_the_prefixes_of_a_triton_that_goes_move() -> None:
    those = members(4)
    for number in range(300):
        before = choose_by_prefix(those, b"%d" % number, PLENTY)
        after = choose_by_prefix(those[1:], b"%d" % number, PLENTY)
        assert after is before or before is those[0]


def test_a_preferred_triton_that_has_much_more_to_do_is_passed_over() -> None:
    those = members(2)
    affinity = Affinity(64, slack_tokens=100)
    preferred = choose_by_prefix(those, b"x", affinity)
    (other,) = [member for member in those if member is not preferred]
    preferred.tokens_in_flight = 100
    assert choose_by_prefix(those, b"x", affinity) is preferred
    preferred.tokens_in_flight = 101
    assert choose_by_prefix(those, b"x", affinity) is other


async def test_one_that_fails_again_and_again_waits_longer_each_time() -> None:
    member = TritonMember("127.0.0.1:1", MemberOptions(list, 500, 1.0, None))
    now_s = 1000.0
    waits = []
    for _ in range(8):
        member.note_failure(now_s)
        waits.append(member.readmitted_at_s - now_s)
        now_s += FAILURES_REMEMBERED_S / 2
    assert waits == [0, 1, 2, 4, 8, 16, 30, 30]
    member.note_failure(now_s + FAILURES_REMEMBERED_S + 1)
    assert member.readmitted_at_s == now_s + FAILURES_REMEMBERED_S + 1
    await member.close()
