"""Makes a peer's model of a demo checkpoint.

`python -m benchmarks.systems.convert KIND SOURCE TARGET [NAIAD_PACKAGES]`, where KIND is one of CONVERSIONS.
`checkpoint` writes the GGUF's weights, dequantised, as a Hugging Face folder; it and `encoder_onnx` run in naiad's
environment. The others run in the peer's, which has neither torch nor transformers: they take what is missing from
NAIAD_PACKAGES, naiad's site-packages, after everything of their own.
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


def encoder_onnx(source: Path, target: Path) -> None:
    """Three graphs of a BERT checkpoint: plain, with ONNX Runtime's fused operators, and these with dynamic 8 bits."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions
    from transformers import AutoConfig

    target.mkdir()
    plain, fused = target / "plain.onnx", target / "fused.onnx"
    _export_padded_bert(source, plain)
    config = AutoConfig.from_pretrained(source)
    optimized = optimizer.optimize_model(
        str(plain),
        "bert",
        num_heads=config.num_attention_heads,
        hidden_size=config.hidden_size,
        optimization_options=FusionOptions("bert"),
        opt_level=0,
    )
    found = optimized.get_fused_operator_statistics()
    if found["Attention"] != config.num_hidden_layers:
        raise ValueError(f"the optimizer fused {found['Attention']} of {config.num_hidden_layers} attention layers")
    optimized.save_model_to_file(str(fused))
    # Of the recipes that its documentation names, signed weights with a scale a channel lose least (cosine 0.992
    # against 0.957 with one scale a matrix) and are as fast.
    quantize_dynamic(
        str(fused),
        str(target / "int8.onnx"),
        op_types_to_quantize=["MatMul", "Attention"],
        weight_type=QuantType.QInt8,
        per_channel=True,
        extra_options={"MatMulConstBOnly": True, "DefaultTensorType": onnx.TensorProto.FLOAT},
    )


def _export_padded_bert(source: Path, file: Path) -> None:
    """Inputs [texts, tokens] of ids, mask and types; output: hidden vectors."""
    import torch
    from transformers import AutoModel

    class Hidden(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            # The optimizer knows the attention that this writes, and neither the fused one nor the newer exporter's.
            self.model = AutoModel.from_pretrained(source, dtype=torch.float32, attn_implementation="eager").eval()

        def forward(self, ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
            return self.model(input_ids=ids, attention_mask=mask, token_type_ids=types).last_hidden_state

    names = ["input_ids", "attention_mask", "token_type_ids"]
    ids = torch.randint(5, 1_000, (2, 9))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    torch.onnx.export(
        Hidden(),
        (ids, mask, torch.zeros_like(ids)),
        str(file),
        input_names=names,
        output_names=["last_hidden_state"],
        dynamic_axes={name: {0: "texts", 1: "tokens"} for name in (*names, "last_hidden_state")},
        opset_version=17,
        dynamo=False,
    )


def encoder_ct2(source: Path, target: Path) -> None:
    """The converter's float32 model; other precisions are made when it is loaded."""
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(str(source)).convert(str(target))


CONVERSIONS = {
    function.__name__: function for function in (checkpoint, onnxruntime_genai, ctranslate2, encoder_onnx, encoder_ct2)
}


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
