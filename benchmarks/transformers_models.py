"""The demo checkpoints in transformers: float32, padded batches, its own key-value cache."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
import transformers
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer, StoppingCriteria, StoppingCriteriaList

from exporters.demo import chat_checkpoint, embed_checkpoint

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
    """The `embed` checkpoint, one text at a time, so that no padding can change a number."""

    def __init__(self) -> None:
        path = embed_checkpoint()
        self._tokenizer = AutoTokenizer.from_pretrained(path)
        self._model = AutoModel.from_pretrained(path, dtype=torch.float32).eval()

    def vectors(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Mean pooled vectors of length 1: [texts, hidden size]."""
        with torch.inference_mode():
            means = [
                self._model(**self._tokenizer(text, return_tensors="pt")).last_hidden_state.mean(1) for text in texts
            ]
            vectors: npt.NDArray[np.float32] = torch.nn.functional.normalize(torch.cat(means), dim=-1).numpy()
        return vectors
