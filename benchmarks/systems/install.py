"""Installs the peers under build/bench-peers: `make bench-peers`, or `python -m benchmarks.systems.install [NAME ...]`.

With `--encoders` (`make bench-encoder-peers`) those that `make bench-encoder` measures.

Each peer gets a virtual environment of its own with pinned versions. What is there already is left alone. A peer that
cannot be installed is reported, and the others are installed all the same; the benchmark then says that it is missing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.systems.catalogue import CHECKPOINT_FOLDER, PEERS_FOLDER, System, peers
from benchmarks.systems.encoder_catalogue import (
    BENCH_MODELS,
    INT8_ENTRY,
    EncoderSystem,
    encoder_peers,
    naiad_encoders,
)
from exporters.demo import chat_checkpoint, embed_checkpoint
from tests.support.stack import REPOSITORY_ROOT

# The source distribution of llama-cpp-python holds the whole of llama.cpp, its server included.
LLAMA_VERSION = "0.3.36"
LLAMA_SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
# By Clang: GCC 12 leaves out what its code for AMX reads, which ends the server at the first product.
LLAMA_OPTIONS = ("-DCMAKE_C_COMPILER=clang-19", "-DCMAKE_CXX_COMPILER=clang++-19",
                 "-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=OFF", "-DGGML_NATIVE=ON", "-DLLAMA_BUILD_UI=OFF",
                 "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_CURL=OFF", "-DLLAMA_OPENSSL=OFF")  # fmt: skip


def _run(command: Sequence[object], log: Path, **environment: str) -> None:
    """Runs a command with its output in a file. Raises RuntimeError that names the file."""
    with log.open("ab") as sink:
        done = subprocess.run(
            [str(word) for word in command],
            stdout=sink,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            cwd=REPOSITORY_ROOT,
            env={**os.environ, **environment},
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"{Path(str(command[0])).name} failed, see {log.relative_to(REPOSITORY_ROOT)}")


def _environment(system: System, log: Path) -> None:
    stamp, wanted = system.environment_folder / "requirements.txt", "\n".join(system.requirements)
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    shutil.rmtree(system.environment_folder, ignore_errors=True)
    _run([sys.executable, "-m", "venv", system.environment_folder], log)
    _run([system.python, "-m", "pip", "install", *system.requirements], log, PIP_DISABLE_PIP_VERSION_CHECK="1")
    stamp.write_text(wanted)


def _convert(system: System, kind: str, source: Path, target: Path, log: Path) -> None:
    if target.exists():
        return
    shutil.rmtree(f"{target}.part", ignore_errors=True)
    borrowed = [sysconfig.get_path("purelib")] if system.requirements else []
    command = [system.python, "-m", "benchmarks.systems.convert", kind, source, target, *borrowed]
    _run(command, log, **system.environment(os.cpu_count() or 1))


def _build_llama(binary: Path, log: Path) -> None:
    if binary.exists():
        return
    folder = binary.parents[2]
    archive = folder / "source.tar.gz"
    folder.mkdir(parents=True, exist_ok=True)
    told = subprocess.run([sys.executable, "-m", "pip", "config", "get", "global.index-url"], capture_output=True,
                          text=True, check=False).stdout.strip()  # fmt: skip
    index = os.environ.get("PIP_INDEX_URL") or told or "https://pypi.org/simple"
    _run([sys.executable, "core/scripts/fetch_sdist.py", "--index", index, "--sha256", LLAMA_SHA256, "--output",
          archive, "llama-cpp-python", f"llama_cpp_python-{LLAMA_VERSION}.tar.gz"], log)  # fmt: skip
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    source = folder / f"llama_cpp_python-{LLAMA_VERSION}" / "vendor" / "llama.cpp"
    build = binary.parents[1]
    _run(["cmake", "-S", source, "-B", build, "-G", "Ninja", *LLAMA_OPTIONS], log)
    _run(["cmake", "--build", build, "--target", binary.name], log)


def steps(system: System) -> list[tuple[str, Callable[[Path], None]]]:
    """What is to be done for a system, each step with a log to write to."""
    made: list[tuple[str, Callable[[Path], None]]] = []
    if system.requirements:
        made.append((f"install {' '.join(system.requirements)}", lambda log: _environment(system, log)))
    if isinstance(system, EncoderSystem):
        made += _encoder_steps(system)
    elif system.needs is not None and system.needs.name == "llama-server":
        binary = system.needs
        made.append(("build the server for this CPU (some minutes)", lambda log: _build_llama(binary, log)))
    elif system.needs is not None:
        target = system.needs
        naiad = System("checkpoint", "checkpoint")
        made.append(
            ("dequantise the checkpoint",
             lambda log: _convert(naiad, "checkpoint", chat_checkpoint(), CHECKPOINT_FOLDER, log)),
        )  # fmt: skip
        made.append(
            ("convert the checkpoint", lambda log: _convert(system, system.adapter, CHECKPOINT_FOLDER, target, log))
        )
    return made


def _encoder_steps(system: EncoderSystem) -> list[tuple[str, Callable[[Path], None]]]:
    source, needs = embed_checkpoint(), system.needs
    match system.conversion:
        case "naiad_int8":
            return [("export with 8-bit weights", _export_int8)]
        case "encoder_onnx":
            assert needs is not None
            naiad = System("checkpoint", "checkpoint")
            return [("export ONNX graphs", lambda log: _convert(naiad, "encoder_onnx", source, needs.parent, log))]
        case "encoder_ct2":
            assert needs is not None
            return [("convert the checkpoint", lambda log: _convert(system, "encoder_ct2", source, needs, log))]
    return []


def _export_int8(log: Path) -> None:
    if not (BENCH_MODELS / INT8_ENTRY / "naiad.json").exists():
        _run([sys.executable, "-m", "exporters", embed_checkpoint(), "--name", INT8_ENTRY, "--task", "embed",
              "--weights", "int8", "--repository", BENCH_MODELS], log)  # fmt: skip


def install(system: System) -> str:
    """Does all steps, saying which; returns why it failed, empty if it did not."""
    for what, step in steps(system):
        print(f"==> {system.name}: {what}", flush=True)
        begun = time.monotonic()
        try:
            step(PEERS_FOLDER / f"{system.name.replace(' ', '-')}.log")
        except (RuntimeError, OSError, tarfile.TarError) as error:
            return str(error)
        print(f"    {time.monotonic() - begun:.0f} s", flush=True)
    return ""


def main() -> None:
    """Installs the named peers, or all. Exits with 0 also if some failed: the benchmark reports them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.systems.install", description=__doc__)
    parser.add_argument("names", nargs="*", help="default: all")
    parser.add_argument("--encoders", action="store_true", help="the encoders instead of the decoders")
    given = parser.parse_args()
    systems: list[System] = [*naiad_encoders((INT8_ENTRY,))[:1], *encoder_peers()] if given.encoders else [*peers()]
    known = {system.name: system for system in systems}
    names = given.names or list(known)
    if unknown := [name for name in names if name not in known]:
        parser.error(f"no such peer: {', '.join(unknown)}; there are {', '.join(known)}")
    PEERS_FOLDER.mkdir(parents=True, exist_ok=True)
    for name in names:
        if problem := install(known[name]):
            print(f"    left out, {problem}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
