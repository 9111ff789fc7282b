"""The safety stage of the generation service: the rules of each model, applied to prompts and answers."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from services.common.call import Call
from services.common.chat_template import Message
from services.common.errors import FieldViolation, NaiadError, Reason, Violations
from services.common.text_models import TextModel
from services.generation.completion import CompletionReader
from services.generation.events import Delta, Finished, FinishReason
from services.generation.parameters import Generation, Prompt
from services.generation.safety.answer import AnswerGuard
from services.generation.safety.metrics import SafetyMetrics
from services.generation.safety.policy import Action, Rule, SafetyPolicy
from services.generation.safety.rules import Checked, Classifier, SideRules
from services.generation.safety.windows import windows_of
from services.generation.safety.words import find_words

PROMPT, ANSWER = "prompt", "answer"
# Looking for words in a longer text takes longer than a thread is reached.
_INLINE_CHARS = 4096


class SafetyStage:
    """Finds the rules of a model. Made once; rules that several models share are built once."""

    def __init__(self, policy: SafetyPolicy, classifier: Classifier, metrics: SafetyMetrics) -> None:
        """Raises ModuleNotFoundError when a rule has words and pyahocorasick is not installed."""
        self._policy = policy
        self._classifier = classifier
        self._metrics = metrics
        self._built: dict[tuple[str, ...], SideRules] = {}
        for model in policy.models.values():
            self._side(model.prompt)
            self._side(model.answer)

    def of_model(self, name: str) -> "ModelSafety":
        """What is done for a model."""
        model = self._policy.of_model(name)
        return ModelSafety(name, self._side(model.prompt), self._side(model.answer), self._metrics)

    def _side(self, rules: tuple[Rule, ...]) -> SideRules:
        names = tuple(rule.name for rule in rules)
        if names not in self._built:
            self._built[names] = SideRules(rules, self._classifier)
        return self._built[names]


class ModelSafety:
    """The rules of one model."""

    def __init__(self, model: str, prompt: SideRules, answer: SideRules, metrics: SafetyMetrics) -> None:
        self._model = model
        self._prompt = prompt
        self._answer = answer
        self._metrics = metrics

    async def checked(self, generation: Generation, model: TextModel, call: Call) -> Generation:
        """The generation as it may go on. Raises CONTENT_BLOCKED; INVALID_FIELD for what would show hidden text."""
        if self._answer.hides_text:
            violations = Violations()
            hidden = "the safety policy of the model may hide text, which this would show"
            violations.require(not generation.wanted.token_ids, "response.return_token_ids", hidden)
            violations.require(not generation.wanted.logprobs, "response.logprobs", hidden)
            violations.raise_if_any()
        return replace(generation, prompt=await self.checked_prompt(generation.prompt, model, call))

    async def checked_prompt(self, prompt: Prompt, model: TextModel, call: Call) -> Prompt:
        """The prompt, with what is to be redacted replaced. Raises CONTENT_BLOCKED."""
        if self._prompt.is_empty:
            return prompt
        if prompt.messages is not None:
            parts = {f"{prompt.field}[{i}].content": message.content for i, message in enumerate(prompt.messages)}
            contents = await self._checked_texts(parts, call)
            messages = zip(prompt.messages, contents, strict=True)
            return replace(prompt, messages=tuple(Message(message.role, content) for message, content in messages))
        if prompt.text is not None:
            (text,) = await self._checked_texts({prompt.field: prompt.text}, call)
            return replace(prompt, text=text)
        text = model.tokenizer.decode(prompt.token_ids or ())
        if await self._checked_texts({prompt.field: text}, call) != [text]:
            raise _blocked(prompt.field, "its tokens hold what would be redacted in a text")
        return prompt

    async def _checked_texts(self, texts: Mapping[str, str], call: Call) -> list[str]:
        """The texts, by their fields, as they may go on. Raises CONTENT_BLOCKED."""
        checked = Checked()
        try:
            kept = [await self._without_words(field, text, checked) for field, text in texts.items()]
            return await self._classified(list(texts), kept, checked) if self._prompt.classifier_rules else kept
        finally:
            self._note(PROMPT, checked.found, call)

    async def _without_words(self, field: str, text: str, checked: Checked) -> str:
        matcher = self._prompt.matcher
        if matcher is None:
            return text
        inline = len(text) <= _INLINE_CHARS
        scanned = find_words(matcher, text) if inline else await asyncio.to_thread(find_words, matcher, text)
        kept = self._prompt.apply_words(scanned, checked)
        if checked.blocked_by is not None:
            raise _refused(field, checked.blocked_by)
        return kept

    async def _classified(self, fields: Sequence[str], texts: Sequence[str], checked: Checked) -> list[str]:
        windows = [(place, window) for place, text in enumerate(texts) for window in windows_of(text)]
        left = await self._prompt.apply_classifiers([window for _, window in windows], checked)
        if checked.blocked_by is not None:
            raise _refused(fields[windows[len(left)][0]], checked.blocked_by)
        kept = [""] * len(texts)
        for (place, _), window in zip(windows, left, strict=True):
            kept[place] += window
        return kept

    def guards(self, completions: int, call: Call) -> "CompletionGuards | None":
        """What checks the answers; None when nothing is to be checked."""
        if self._answer.is_empty:
            return None
        return CompletionGuards([AnswerGuard(self._answer) for _ in range(completions)], self, call)

    def note_answer(self, found: Mapping[str, Action], call: Call) -> None:
        """Counts what the rules found in one completion."""
        self._note(ANSWER, found, call)

    def _note(self, side: str, found: Mapping[str, Action], call: Call) -> None:
        for rule, action in found.items():
            self._metrics.actions.labels(self._model, side, rule, action.value).inc()
            noted = f"{side}:{rule}:{action.value}"
            before = str(call.log_fields.get("safety", ""))
            if noted not in before.split(","):
                call.log_fields["safety"] = f"{before},{noted}".lstrip(",")


class CompletionGuards:
    """Checks the completions of one request."""

    def __init__(self, guards: list[AnswerGuard], safety: ModelSafety, call: Call) -> None:
        self._guards = guards
        self._found: list[dict[str, Action]] = [{} for _ in guards]
        self._safety = safety
        self._call = call

    async def apply(self, reader: CompletionReader, delta: Delta) -> None:
        """Leaves in `delta` what may be shown now, and ends a completion that is blocked. Raises NaiadError."""
        guard, found = self._guards[reader.index], self._found[reader.index]
        checked = await guard.push(delta.text) if delta.text else Checked()
        delta.text = checked.text
        found.update(checked.found)
        if reader.finished is not None and checked.blocked_by is None:
            checked = await guard.finish()
            delta.text += checked.text
            found.update(checked.found)
        if checked.blocked_by is not None:
            reader.finished = Finished(reader.index, FinishReason.CONTENT_FILTER)
        if reader.finished is not None:
            reader.finished = replace(reader.finished, safety_rules=tuple(sorted(found)))
            self._safety.note_answer(found, self._call)


def _refused(field: str, rule: str) -> NaiadError:
    return _blocked(field, f"the safety rule {rule!r} refuses it")


def _blocked(field: str, description: str) -> NaiadError:
    return NaiadError(Reason.CONTENT_BLOCKED, f"{field}: {description}", (FieldViolation(field, description),))
