"""Makes a peer's model of the demo checkpoint.

`python -m benchmarks.systems.convert KIND SOURCE TARGET [NAIAD_PACKAGES]`, where KIND is one of CONVERSIONS.
`checkpoint` writes the GGUF's weights, dequantised, as a Hugging Face folder and runs in naiad's environment. The
others run in the peer's, which has neither torch nor transformers: they take what is missing from NAIAD_PACKAGES,
naiad's site-packages, after everything of their own.
"""

from __future__ import annotations

import importlib.util
import json
import runpy
import site
import sys
from pathlib import Path


def checkpoint(source: Path, target: Path) -> None:
    """A folder with float32 safetensors, configuration and tokenizer, from the GGUF file `source`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    read = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
    # A model that was read from GGUF counts as quantised, and refuses to be saved, although its weights are floats.
    del read.config.quantization_config
    plain = AutoModelForCausalLM.from_config(read.config)
    plain.load_state_dict(read.state_dict())
    plain.save_pretrained(target)
    AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(target)


def onnxruntime_genai(source: Path, target: Path) -> None:
    """The builder's 4-bit model for CPUs, with 8-bit activations (accuracy level 4)."""
    package = importlib.util.find_spec("onnxruntime_genai")
    assert package is not None and package.origin is not None
    folder = Path(package.origin).parent / "models"
    sys.path.insert(0, str(folder))
    sys.argv = ["builder.py", "-m", str(source), "-i", str(source), "-o", str(target), "-p", "int4", "-e", "cpu"]
    sys.argv += ["-c", str(target.parent / "cache"), "--extra_options", "int4_accuracy_level=4"]
    runpy.run_path(str(folder / "builder.py"), run_name="__main__")


def ctranslate2(source: Path, target: Path) -> None:
    """The converter's 8-bit model, and the strings of all token ids beside it."""
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(str(source)).convert(str(target), quantization="int8")
    vocabulary = json.loads((source / "tokenizer.json").read_text())["model"]["vocab"]
    (target / "vocabulary.json").write_text(json.dumps(sorted(vocabulary, key=vocabulary.__getitem__)))


CONVERSIONS = {function.__name__: function for function in (checkpoint, onnxruntime_genai, ctranslate2)}


def main() -> None:
    """Converts into a folder beside the target, which takes its place once it is whole."""
    kind, source, target, *packages = sys.argv[1:]
    for folder in packages:
        site.addsitedir(folder)
    unfinished = Path(target + ".part")
    CONVERSIONS[kind](Path(source), unfinished)
    unfinished.rename(target)


if __name__ == "__main__":
    main()
