"""Checks one completion while it is generated. What is not decided yet is held back."""

from services.generation.safety.rules import Checked, SideRules
from services.generation.safety.windows import SentenceWindows
from services.generation.safety.words import Scanned, WordScanner


class AnswerGuard:
    """Text goes through the word rules, then, by sentences, through the classifiers."""

    def __init__(self, rules: SideRules) -> None:
        self._rules = rules
        self._scanner = WordScanner(rules.matcher) if rules.matcher is not None else None
        self._windows = SentenceWindows() if rules.classifier_rules else None

    async def push(self, text: str) -> Checked:
        """Takes the next piece; what may be shown now. After a block, push no more. Raises NaiadError."""
        scanned = Scanned(text, []) if self._scanner is None else self._scanner.push(text)
        return await self._check(scanned, is_last=False)

    async def finish(self) -> Checked:
        """The rest, when no more text comes. Raises NaiadError."""
        scanned = Scanned("", []) if self._scanner is None else self._scanner.finish()
        return await self._check(scanned, is_last=True)

    async def _check(self, scanned: Scanned, is_last: bool) -> Checked:
        checked = Checked()
        checked.text = self._rules.apply_words(scanned, checked)
        if self._windows is None:
            return checked
        windows = self._windows.push(checked.text)
        if is_last or checked.blocked_by is not None:
            windows += self._windows.finish()
        checked.text = "".join(await self._rules.apply_classifiers(windows, checked))
        return checked
