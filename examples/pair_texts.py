"""Pairs of texts from WordNet: questions with what answers them or not, and texts with what they are about or not."""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from examples.wordnet import WORDNET, Sense, ancestors, read_common, read_nouns

HELD_OUT_SHARE = 0.1
QUESTIONS = ("What is {}?", "{}", "meaning of {}", "What does {} mean?", "Define {}.", "Tell me about {}.")
HYPOTHESIS = "This text is about {}."
_LEAST_WORDS, _LEAST_TEXTS, _HELD_OUT_CHOICES = 4, 8, 200


@dataclass(frozen=True)
class Pair:
    """Two texts, and whether the second goes with the first."""

    first: str
    second: str
    fits: bool


@dataclass(frozen=True)
class Choice:
    """Pairs to be ranked, of which the first alone fits."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class PairData:
    """What is trained on and what is measured with; they share no word that is asked for."""

    train: list[Pair]
    held_out: list[Choice]


def is_held_out(word: str) -> bool:
    """Decided by the word alone."""
    return hashlib.sha256(word.encode()).digest()[0] < 256 * HELD_OUT_SHARE


def relevance_pairs(count: int, seed: int, folder: Path = WORDNET) -> PairData:
    """Questions about a noun with its definition, or with that of another noun, mostly a related one.

    count: pairs to train on. Held out are up to 200 questions about other nouns, each with up to 20 definitions, of
    which up to 9 are of nouns of the same kind.
    """
    chance = random.Random(seed)  # noqa: S311 - nothing secret
    senses, common = read_nouns(folder), read_common(folder)
    known = {word: senses[place] for word, place in common.items() if _is_long(senses[place].definition)}
    siblings: dict[str, list[str]] = defaultdict(list)
    for word, sense in known.items():
        for parent in sense.parents:
            siblings[parent].append(word)
    parts = [sorted(word for word in known if is_held_out(word) == held_out) for held_out in (False, True)]

    def others(word: str, near: int, far: int, allowed: Sequence[str]) -> list[str]:
        close = [other for parent in known[word].parents for other in siblings[parent]]
        close = [other for other in dict.fromkeys(close) if known[other].definition != known[word].definition]
        picked = chance.sample(close, min(near, len(close)))
        picked += chance.sample(allowed, near + far - len(picked) + 1)
        distinct = {known[other].definition: other for other in picked if other != word}
        distinct.pop(known[word].definition, None)
        return [document(other) for other in distinct.values()][: near + far]

    def document(word: str) -> str:
        # Some texts name what they are about, as most real ones do.
        return f"{word}: {known[word].definition}" if chance.random() < 0.3 else known[word].definition

    train: list[Pair] = []
    while len(train) < count:
        word = chance.choice(parts[0])
        question = chance.choice(QUESTIONS).format(word)
        train.append(Pair(question, document(word), True))
        train += [Pair(question, text, False) for text in others(word, 2, 1, parts[0])]
    held_out = []
    for word in chance.sample(parts[1], min(_HELD_OUT_CHOICES, len(parts[1]))):
        question = chance.choice(QUESTIONS).format(word)
        texts = [document(word), *others(word, 9, 10, parts[1])]
        held_out.append(Choice(tuple((question, text) for text in texts)))
    chance.shuffle(train)
    return PairData(train, held_out)


def entailment_pairs(count: int, seed: int, folder: Path = WORDNET) -> PairData:
    """Definitions and examples with the statement that they are about a topic.

    Topics are what the defined noun is a kind of, or the field that it belongs to. count: pairs to train on. Held out
    are 200 texts, each with 5 topics, none of which was trained on.
    """
    chance = random.Random(seed)  # noqa: S311 - nothing secret
    senses, common = read_nouns(folder), read_common(folder)
    topics = _topics(senses, {place: word for word, place in common.items()})
    by_part = [
        {place: texts for place, texts in topics.items() if is_held_out(senses[place].word) == held_out}
        for held_out in (False, True)
    ]

    def draw(part: Mapping[str, list[str]], wrong: int) -> tuple[str, str, list[str]]:
        topic = chance.choice(list(part))
        text = chance.choice(part[topic])
        true = {topic, *ancestors(senses, text), *senses[text].domains}
        true |= {above for place in tuple(true) for above in ancestors(senses, place)}
        false = [place for place in part if place not in true and topic not in ancestors(senses, place)]
        return text, topic, chance.sample(false, min(wrong, len(false)))

    train: list[Pair] = []
    while len(train) < count:
        text, topic, wrong = draw(by_part[0], 2)
        premise = _premise(senses[text], chance)
        places = [topic, *wrong]
        train += [Pair(premise, HYPOTHESIS.format(senses[place].word), place == topic) for place in places]
    held_out = []
    for _ in range(_HELD_OUT_CHOICES):
        text, topic, wrong = draw(by_part[1], 4)
        premise = _premise(senses[text], chance)
        held_out.append(Choice(tuple((premise, HYPOTHESIS.format(senses[place].word)) for place in (topic, *wrong))))
    chance.shuffle(train)
    return PairData(train, held_out)


def _topics(senses: dict[str, Sense], common: Mapping[str, str]) -> dict[str, list[str]]:
    """Topics that are common nouns, neither too general nor too rare, with the senses that are about them."""
    found: dict[str, list[str]] = defaultdict(list)
    for place, sense in senses.items():
        if not _is_long(sense.definition):
            continue
        for topic in (*ancestors(senses, place), *sense.domains):
            if common.get(topic) == senses[topic].word:
                found[topic].append(place)
    return {
        topic: texts
        for topic, texts in found.items()
        if len(texts) >= _LEAST_TEXTS and len(ancestors(senses, topic)) >= 4  # Not "object" or "act".
    }


def _premise(sense: Sense, chance: random.Random) -> str:
    parts = [sense.definition, *sense.examples]
    text = ". ".join(parts if chance.random() < 0.5 else parts[:1])
    return f"{sense.word}: {text}" if chance.random() < 0.5 else text


def _is_long(definition: str) -> bool:
    return len(definition.split()) >= _LEAST_WORDS
