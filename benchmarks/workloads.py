"""The fixed work that every system under measurement does: the same numbers give the same work at every call."""

import random

PROMPT_TOKENS = 64
NEW_TOKENS = 64
# Of streams that begin together: long enough that all of them decode side by side for most of the run, although the
# first has its tokens before the last has its prompt.
DECODE_TOKENS = 128
STREAM_COUNTS = (1, 8, 32)
_SEED = 20_241_124
# Word counts of the texts to embed: mean 32, a long tail, as sentences and paragraphs come in real traffic.
_WORD_COUNTS = (3, 5, 8, 8, 12, 12, 15, 20, 25, 30, 40, 60, 80, 140)
_SENTENCE = (
    "the harbour lay quiet under a low grey sky and boats moved slowly between piers while people spoke of weather "
    "prices schools music trains winter bread letters friends rivers markets and the long road north"
)
_WORDS = _SENTENCE.split()


def prompts(count: int, tokens: int = PROMPT_TOKENS, variant: str = "") -> list[list[int]]:
    """`count` prompts of ordinary token ids; each `variant` gives others, of which none begins like another."""
    chooser = random.Random(f"{_SEED} {variant}")
    return [[chooser.randrange(300, 30_000) for _ in range(tokens)] for _ in range(count)]


def texts(count: int) -> list[str]:
    """`count` texts of mixed lengths in arrival order."""
    chooser = random.Random(_SEED)
    return [" ".join(chooser.choices(_WORDS, k=chooser.choice(_WORD_COUNTS))) for _ in range(count)]


def poisson_arrivals(per_second: float, duration_s: float, variant: str = "") -> list[float]:
    """When requests arrive that know nothing of each other, in seconds from 0 to `duration_s`; at least one does.

    Raises ValueError if a number is not above 0.
    """
    if per_second <= 0 or duration_s <= 0:
        raise ValueError("the rate and the duration must be above 0")
    chooser = random.Random(f"{_SEED} {per_second} {variant}")
    arrivals = [0.0]
    while (following := arrivals[-1] + chooser.expovariate(per_second)) < duration_s:
        arrivals.append(following)
    return arrivals
