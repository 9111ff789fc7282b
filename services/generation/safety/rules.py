"""The rules of one side (prompts or answers) of one model, ready to be applied to text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from services.generation.safety.policy import Action, Rule
from services.generation.safety.words import Scanned, WordMatcher


class Classifier(Protocol):
    """Scores texts by label."""

    async def scores(self, name: str, texts: Sequence[str]) -> Sequence[Mapping[str, float]]:
        """Of each text. Raises NaiadError."""


@dataclass
class Checked:
    """What may be shown, and the names of the rules that found something; after `blocked_by` nothing is shown."""

    text: str = ""
    found: dict[str, Action] = field(default_factory=dict)
    blocked_by: str | None = None

    def block(self, rule: Rule) -> None:
        """Notes what ends the text."""
        self.found[rule.name] = rule.action
        self.blocked_by = rule.name


class SideRules:
    """Word rules as one automaton, and classifier rules. Raises ModuleNotFoundError without pyahocorasick."""

    def __init__(self, rules: Sequence[Rule], classifier: Classifier) -> None:
        self._by_name = {rule.name: rule for rule in rules}
        words = {rule.name: rule.words for rule in rules if rule.words}
        self.matcher = WordMatcher(words) if words else None
        self.classifier_rules = [rule for rule in rules if rule.classifier is not None]
        self._classifier = classifier

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to check."""
        return not self._by_name

    @property
    def hides_text(self) -> bool:
        """Whether some of the text may not be shown."""
        return any(rule.action is not Action.FLAG for rule in self._by_name.values())

    def apply_words(self, scanned: Scanned, checked: Checked) -> str:
        """The text that the word rules leave: up to the first blocked word, others replaced. Notes what was found."""
        kept: list[str] = []
        shown_to = 0
        for match in sorted(scanned.matches, key=lambda match: (match.start, -match.end)):
            rules = [self._by_name[name] for name in match.rules]
            blocking = next((rule for rule in rules if rule.action is Action.BLOCK), None)
            if blocking is not None:
                kept.append(scanned.text[shown_to : match.start])
                checked.block(blocking)
                return "".join(kept)
            checked.found.update({rule.name: rule.action for rule in rules})
            redacting = next((rule for rule in rules if rule.action is Action.REDACT), None)
            if redacting is not None:
                if match.start >= shown_to:
                    kept += [scanned.text[shown_to : match.start], redacting.replacement]
                shown_to = max(shown_to, match.end)
        kept.append(scanned.text[shown_to:])
        return "".join(kept)

    async def apply_classifiers(self, windows: Sequence[str], checked: Checked) -> list[str]:
        """The windows that the classifier rules leave: those before the first blocked one, others replaced."""
        kept = list(windows)
        shown = len(kept)
        texts = [window for window in windows if window.strip()]
        places = [place for place, window in enumerate(windows) if window.strip()]
        for name in dict.fromkeys(rule.classifier for rule in self.classifier_rules) if texts else ():
            scores = await self._classifier.scores(str(name), texts)
            for rule in self.classifier_rules:
                if rule.classifier != name or rule.thresholds is None:
                    continue
                for place, of_window in zip(places, scores, strict=True):
                    if not any(of_window[label] >= limit for label, limit in rule.thresholds.items()):
                        continue
                    if rule.action is Action.BLOCK:
                        shown = min(shown, place)
                        checked.block(rule)
                        break
                    checked.found[rule.name] = rule.action
                    if rule.action is Action.REDACT:
                        blanks = windows[place][len(windows[place].rstrip()) :]
                        kept[place] = rule.replacement + blanks
        return kept[:shown]
