"""Fuzzes all targets for a time each, and says what that reached: `python -m tests.fuzz.campaign --seconds 600`.

C++ targets are those of core/fuzz (libFuzzer, ASan, UBSan), Python targets those of targets.py (atheris);
docs/fuzzing.md has the rest. A finding ends its target, is kept, and makes the exit code 1.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.fuzz.corpus_coverage import cpp_coverage, python_coverage
from tests.fuzz.targets import CHAT_TEMPLATE, target_names

ROOT = Path(__file__).parents[2]
FUZZERS = ROOT / "build" / "core-fuzz" / "fuzz"
KEPT = ROOT / "tests" / "fuzz" / "corpus"
WORK = ROOT / "build" / "fuzz"
CPP_TARGETS = ("generation_request", "encoder_request", "model_config", "guide")
_DICTIONARIES = {
    "model_config": ROOT / "core" / "fuzz" / "config.dict",
    "guide": ROOT / "core" / "fuzz" / "guide.dict",
    CHAT_TEMPLATE: ROOT / "tests" / "fuzz" / "jinja.dict",
}
# Longer inputs than these only repeat what shorter ones do; texts of a depth that matters must fit.
_MAX_INPUT_BYTES = {"model_config": 16_384, "guide": 4_096}
_USUAL_INPUT_BYTES = 2_048
_INPUT_LIMIT_S = 30  # libFuzzer's own limit on one input
_MEMORY_LIMIT_MIB = 3_072
_NICENESS = int(os.environ.get("FUZZ_NICENESS", "19"))


@dataclass(frozen=True)
class Outcome:
    """What one target did. `coverage` is the share of lines of the code it is aimed at that its corpus reaches."""

    target: str
    language: str
    seconds: float
    executions: int
    executions_per_second: int
    features: int
    corpus_files: int
    coverage: float
    findings: list[str]


def command_of(target: str, arguments: Sequence[str]) -> list[str]:
    """How the target is run with libFuzzer's arguments."""
    if target in CPP_TARGETS:
        return [str(FUZZERS / f"fuzz_{target}"), *arguments]
    return [sys.executable, "-m", "tests.fuzz.atheris_target", target, *arguments]


def environment() -> dict[str, str]:
    """Ours, and no profile of a run that is not for coverage."""
    return {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'protos'}", "LLVM_PROFILE_FILE": "/dev/null"}


def folders_of(target: str) -> list[str]:
    """Where new inputs go, then those that are kept in the repository."""
    grown, kept = WORK / "corpus" / target, KEPT / target
    grown.mkdir(parents=True, exist_ok=True)
    kept.mkdir(parents=True, exist_ok=True)
    return [str(grown), str(kept)]


def fuzz(target: str, seconds: int) -> Outcome:
    """Runs one target."""
    artifacts = WORK / "findings" / target
    artifacts.mkdir(parents=True, exist_ok=True)
    before = set(artifacts.iterdir())
    arguments = [
        f"-max_total_time={seconds}",
        f"-max_len={_MAX_INPUT_BYTES.get(target, _USUAL_INPUT_BYTES)}",
        f"-timeout={_INPUT_LIMIT_S}",
        f"-rss_limit_mb={_MEMORY_LIMIT_MIB}",
        f"-artifact_prefix={artifacts}/",
        "-print_final_stats=1",
    ]
    if target in _DICTIONARIES:
        arguments.append(f"-dict={_DICTIONARIES[target]}")
    begun_s = time.monotonic()
    log = WORK / "logs" / f"{target}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as stream:
        command = command_of(target, [*arguments, *folders_of(target)])
        patient = ["nice", "-n", str(_NICENESS), *command]
        done = subprocess.run(patient, cwd=ROOT, env=environment(), stdout=stream, stderr=stream, check=False)
        code = done.returncode
    new = sorted(set(artifacts.iterdir()) - before)
    # A slow input is reported and goes on; only one beyond the limit is a finding, a "timeout".
    findings = [str(path.relative_to(ROOT)) for path in new if not path.name.startswith("slow-unit")]
    if code != 0 and not findings:
        findings = [f"exit code {code}, see {log.relative_to(ROOT)}"]
    return _read_log(target, log.read_text(errors="replace"), time.monotonic() - begun_s, findings)


def _read_log(target: str, log: str, seconds: float, findings: list[str]) -> Outcome:
    executions = _last_number(r"stat::number_of_executed_units:\s*(\d+)", log) or _last_number(r"(?m)^#(\d+)\t", log)
    is_cpp = target in CPP_TARGETS
    folders = folders_of(target)
    return Outcome(
        target=target,
        language="C++" if is_cpp else "Python",
        seconds=round(seconds, 1),
        executions=executions,
        executions_per_second=round(executions / seconds),
        features=_last_number(r"\bft: (\d+)", log),
        corpus_files=_last_number(r"\bcorp: (\d+)", log),
        coverage=cpp_coverage(target, folders) if is_cpp else python_coverage(target, folders),
        findings=findings,
    )


def _last_number(pattern: str, text: str) -> int:
    found = re.findall(pattern, text)
    return int(found[-1]) if found else 0


def prove_sanitizers() -> None:
    """Raises unless coverage leads the search to a crime behind a lock, and each sanitizer reports its own."""
    binary = str(FUZZERS / "fuzz_sanitizer_is_live")
    with tempfile.TemporaryDirectory() as scratch:

        def report(*arguments: str) -> str:
            command = [binary, f"-artifact_prefix={scratch}/", *arguments]
            done = subprocess.run(command, env=environment(), capture_output=True, check=False)
            if done.returncode == 0:
                raise RuntimeError(f"nothing was found by: {' '.join(command)}")
            return done.stderr.decode(errors="replace")

        report("-runs=10000000", "-max_len=8")
        for lock, crime in ((b"ac0w", "heap-use-after-free"), (b"uc0w", "signed integer overflow")):
            path = Path(scratch) / "input"
            path.write_bytes(lock)
            if crime not in report(str(path)):
                raise RuntimeError(f"the sanitizer does not report: {crime}")


def minimise(target: str) -> None:
    """Replaces the kept corpus by a small set of inputs, of all known, that reaches as much."""
    grown, kept = folders_of(target)
    merged = WORK / "merged" / target
    merged.mkdir(parents=True, exist_ok=True)
    for path in merged.iterdir():
        path.unlink()
    if target in CPP_TARGETS:
        command = command_of(target, ["-set_cover_merge=1", f"-timeout={_INPUT_LIMIT_S}", str(merged), grown, kept])
    else:
        command = [sys.executable, "-m", "tests.fuzz.smallest_corpus", target, str(merged), grown, kept]
    log = WORK / "logs" / f"{target}.merge.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as stream:
        subprocess.run(["nice", "-n", str(_NICENESS), *command], cwd=ROOT, env=environment(), stderr=stream, check=True)
    for path in Path(kept).iterdir():
        path.unlink()
    for path in merged.iterdir():
        path.rename(Path(kept) / path.name)


def table(outcomes: Iterable[Outcome]) -> str:
    """The outcomes as Markdown."""
    rows = [
        f"| {o.target} | {o.language} | {o.seconds:.0f} | {o.executions:,} | {o.executions_per_second:,} | "
        f"{o.corpus_files:,} | {o.coverage:.0%} | {len(o.findings)} |"
        for o in outcomes
    ]
    head = "| target | | s | executions | a second | corpus | lines reached | findings |\n|---|---|" + "--:|" * 6
    return "\n".join([head, *rows])


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.campaign", description=__doc__)
    parser.add_argument("--seconds", type=int, default=600, help="for each target; default: 600")
    known = [*CPP_TARGETS, *target_names()]
    parser.add_argument("--targets", nargs="+", default=known, choices=known, metavar="TARGET", help="default: all")
    parser.add_argument("--jobs", type=int, default=2, help="targets at once; default: 2")
    parser.add_argument("--minimise", action="store_true", help="only shrink the corpora that are kept")
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    with ThreadPoolExecutor(arguments.jobs) as pool:
        if arguments.minimise:
            list(pool.map(minimise, arguments.targets))
            return 0
        if set(arguments.targets) & set(CPP_TARGETS):
            prove_sanitizers()
        outcomes = list(pool.map(lambda target: fuzz(target, arguments.seconds), arguments.targets))
    print(table(outcomes))
    if arguments.output:
        arguments.output.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1) + "\n")
    findings = [finding for outcome in outcomes for finding in outcome.findings]
    print("\n".join(["findings:", *findings]) if findings else "no findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
