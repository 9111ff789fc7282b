"""The demo checkpoints in transformers: float32, padded batches, its own key-value cache."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
import transformers
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer, StoppingCriteria, StoppingCriteriaList

from exporters.demo import chat_checkpoint, embed_checkpoint

EMBED_BATCH = 16

transformers.logging.set_verbosity_error()


class _StepWatcher(StoppingCriteria):  # type: ignore[misc]
    """Is asked after every step whether to stop, and never says yes."""

    def __init__(self, on_step: Callable[[], object]) -> None:
        self._on_step = on_step

    def __call__(self, input_ids: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
        self._on_step()
        return torch.zeros(input_ids.shape[0], dtype=torch.bool)


class TransformersDecoder:
    """The `chat` checkpoint."""

    def __init__(self) -> None:
        path = chat_checkpoint()
        self._model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()
        # Every system goes on after the end of the text; a least length would forbid the token itself as well.
        self._model.generation_config.eos_token_id = None

    @property
    def weight_bytes(self) -> int:
        """Of all weights, shared ones counted once."""
        return sum(weights.nbytes for weights in self._model.parameters())

    def generate(self, prompts: list[list[int]], new_tokens: int, on_step: Callable[[], object]) -> list[list[int]]:
        """Generates exactly `new_tokens` greedily for prompts of one length; `on_step` is called after each step."""
        ids = torch.tensor(prompts)
        with torch.inference_mode():
            output = self._model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=new_tokens,
                pad_token_id=0,
                stopping_criteria=StoppingCriteriaList([_StepWatcher(on_step)]),
            )
        rows: list[list[int]] = output[:, ids.shape[1] :].tolist()
        return rows

    def logits(self, prompt: list[int], tokens: list[int]) -> npt.NDArray[np.float32]:
        """The logits before each of `tokens`, which continue `prompt`: [tokens, vocabulary]."""
        ids = torch.tensor([[*prompt, *tokens[:-1]]])
        with torch.inference_mode():
            rows: npt.NDArray[np.float32] = self._model(input_ids=ids, logits_to_keep=len(tokens)).logits[0].numpy()
        return rows


class TransformersEncoder:
    """The `embed` checkpoint, in padded batches of EMBED_BATCH."""

    def __init__(self) -> None:
        path = embed_checkpoint()
        self._tokenizer = AutoTokenizer.from_pretrained(path)
        self._model = AutoModel.from_pretrained(path, dtype=torch.float32).eval()

    def embed(self, texts: list[str]) -> int:
        """Embeds the texts, mean pooled and normalised; returns the number of tokens that are not padding."""
        tokens = 0
        for start in range(0, len(texts), EMBED_BATCH):
            batch = self._tokenizer(
                texts[start : start + EMBED_BATCH], padding=True, truncation=True, return_tensors="pt"
            )
            mask = batch["attention_mask"].unsqueeze(-1)
            with torch.inference_mode():
                hidden = self._model(**batch).last_hidden_state
                pooled = (hidden * mask).sum(1) / mask.sum(1)
                torch.nn.functional.normalize(pooled, dim=-1)
            tokens += int(mask.sum())
        return tokens
