"""Many short texts through ClassifyStream, and the memory of the service, the engine and the client meanwhile.

`python -m benchmarks.bulk_memory [--rows 100000] [--output FILE.json]`: classifies a CSV file with `naiad classify
FILE --output OUT` and samples the resident memory of every process once a second. After the first quarter it must stay
level; exits with 1 if it does not, or if a row is missing.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.report import machine, table, write_report
from tests.support.bulk_files import check_results, write_texts
from tests.support.models import demo_model, linked_models
from tests.support.stack import REPOSITORY_ROOT, Stack, running_stack

SAMPLE_PERIOD_S = 1.0
WARM_UP_PART = 1 / 4
GROWTH_LIMIT = 0.02
SMALL_GROWTH_BYTES = 8 << 20


def watched_processes(stack: Stack, client: "subprocess.Popen[bytes]") -> dict[str, psutil.Process]:
    """The processes that texts go through."""
    children = psutil.Process(stack.process.pid).children(recursive=True)
    engine = next(child for child in children if "tritonserver" in Path(child.cmdline()[0]).name)
    service = next(child for child in children if "services.classification" in child.cmdline())
    return {"client": psutil.Process(client.pid), "service": service, "engine": engine}


def classify_file(stack: Stack, source: Path, output: Path) -> tuple[float, dict[str, list[int]]]:
    """Seconds that the command took, and resident bytes of each process, second by second."""
    begun_s = time.monotonic()
    command = [sys.executable, "-m", "services.cli.main", "classify", str(source), "--output", str(output)]
    client = subprocess.Popen(command, cwd=REPOSITORY_ROOT, env=stack.environment)
    processes = watched_processes(stack, client)
    samples: dict[str, list[int]] = {name: [] for name in processes}
    while True:
        try:
            code = client.wait(SAMPLE_PERIOD_S)
            break
        except subprocess.TimeoutExpired:
            for name, process in processes.items():
                samples[name].append(process.memory_info().rss)
    if code != 0:
        raise SystemExit(f"naiad classify ended with {code}")
    return time.monotonic() - begun_s, samples


def growth_bytes(samples: list[int]) -> int:
    """How much the last tenth is above the tenth after the warm-up, by their medians."""
    start, part = int(len(samples) * WARM_UP_PART), max(1, len(samples) // 10)
    return sorted(samples[-part:])[part // 2] - sorted(samples[start : start + part])[part // 2]


def main() -> None:
    """Measures, prints a table and a verdict, writes JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bulk_memory", description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/out/bulk-memory.json"))
    arguments = parser.parse_args()
    with (
        linked_models({"sentiment": {}}, source=demo_model("sentiment")) as repository,
        tempfile.TemporaryDirectory() as folder,
        running_stack(repository, Path(folder)) as stack,
    ):
        source, output = Path(folder) / "texts.csv", Path(folder) / "scored.csv"
        write_texts(source, arguments.rows)
        duration_s, samples = classify_file(stack, source, output)
        rows = check_results(source, output)
    growths = {name: growth_bytes(sizes) for name, sizes in samples.items()}
    grown = [
        name for name, sizes in samples.items() if growths[name] > max(SMALL_GROWTH_BYTES, GROWTH_LIMIT * sizes[-1])
    ]
    lines = (
        (name, f"{min(sizes) >> 20} MiB", f"{max(sizes) >> 20} MiB", f"{growths[name] / 2**20:+.1f} MiB")
        for name, sizes in samples.items()
    )
    print(f"{machine()}\n{rows} rows in {duration_s:.1f} s, {rows / duration_s:.0f} rows/s")
    print(table(("process", "least", "most", "growth after warm-up"), lines))
    print("verdict: " + (f"{', '.join(grown)} grew" if grown else "memory level"))
    figures = {"rows": rows, "duration_s": duration_s, "growth_bytes": growths, "samples": samples}
    write_report(arguments.output, figures)
    sys.exit(1 if grown else 0)


if __name__ == "__main__":
    main()
