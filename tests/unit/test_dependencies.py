"""Dependencies: locked by hash, at versions without the known holes, and the same in every file that names them."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from google.protobuf.internal import api_implementation
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

REPOSITORY_ROOT = Path(__file__).parents[2]
LOCKS = {
    "build": [],
    "serve": ["otel", "safety"],
    "export": ["export", "otel", "safety"],
    "develop": ["export", "dev", "bench", "otel", "safety"],
}
# Which build of it fits differs from machine to machine: requirements/overrides.txt.
NOT_LOCKED = {"torch"}

# The oldest version without a hole or fault that matters here, and which.
FLOORS = {
    "grpcio": ("1.81", "CVE-2024-7246 and older ones of HTTP/2; the limit of calls of grpc#41531 is not used"),
    "onnx": ("1.21.0", "CVE-2026-34446: external data behind hard links"),
    "onnxruntime": ("1.26", "external data behind links and markers of memory: onnxruntime#27539, #28709"),
    "protobuf": ("6.33.5", "CVE-2026-0994 and CVE-2025-4565: recursion"),
    "jinja2": ("3.1.6", "CVE-2025-27516: a way out of the sandbox"),
    "transformers": ("5", "loading of pickles is off unless asked for"),
}


def locked(name: str) -> dict[str, tuple[Requirement, list[str]]]:
    """Package -> requirement and hashes of requirements/NAME.lock, as far as it is for this machine."""
    text = (REPOSITORY_ROOT / "requirements" / f"{name}.lock").read_text()
    found = {}
    for block in re.split(r"\n(?=\S)", text):
        line, *rest = block.replace("\\\n", "\n").splitlines()
        if not line.startswith("#"):
            requirement = Requirement(line)
            if requirement.marker is not None and not requirement.marker.evaluate():
                continue  # for another system, or another version of Python
            found[canonicalize_name(requirement.name)] = (requirement, [hash_.strip() for hash_ in rest])
    return found


def pinned() -> dict[str, str]:
    """Package -> version of constraints.txt."""
    lines = (REPOSITORY_ROOT / "constraints.txt").read_text().split()
    return {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}


def version_of(requirement: Requirement) -> str:
    """The one version that a locked requirement allows."""
    (specifier,) = requirement.specifier
    assert specifier.operator == "=="
    return specifier.version


@pytest.mark.parametrize("name", [*LOCKS, "wheels"])
def test_every_locked_package_has_one_version_and_hashes(name: str) -> None:
    packages = locked(name)
    assert packages
    for requirement, hashes in packages.values():
        assert version_of(requirement)
        assert hashes
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", hash_) for hash_ in hashes)


@pytest.mark.parametrize("name", LOCKS)
def test_locks_have_the_versions_of_the_constraints(name: str) -> None:
    versions = pinned()
    for package, (requirement, _) in locked(name).items():
        if package in versions:
            assert version_of(requirement) == versions[package], f"{package}: run `make lock`"


@pytest.mark.parametrize(("name", "extras"), LOCKS.items())
def test_locks_hold_all_that_the_project_asks_for(name: str, extras: list[str]) -> None:
    project = tomllib.loads((REPOSITORY_ROOT / "pyproject.toml").read_text())
    wanted = list(project["build-system"]["requires"])
    if name != "build":
        wanted = [*project["project"]["dependencies"]]
        wanted += [line for extra in extras for line in project["project"]["optional-dependencies"][extra]]
    packages = locked(name)
    for requirement in map(Requirement, wanted):
        package = canonicalize_name(requirement.name)
        if package not in NOT_LOCKED:
            assert package in packages, f"{package} is not locked: run `make lock`"
            assert version_of(packages[package][0]) in requirement.specifier


def test_the_serving_environment_has_no_framework() -> None:
    assert not locked("serve").keys() & {"torch", "transformers", "onnx", "onnxscript", "safetensors"}


def test_what_is_installed_is_what_is_locked() -> None:
    packages = locked("develop")
    differing = []
    for distribution in metadata.distributions():
        package = canonicalize_name(distribution.metadata["Name"])
        if package in packages and distribution.version != version_of(packages[package][0]):
            differing.append(f"{package} {distribution.version}, locked {version_of(packages[package][0])}")
    assert differing == []


@pytest.mark.parametrize(("package", "floor"), FLOORS.items())
def test_versions_are_free_of_known_holes(package: str, floor: tuple[str, str]) -> None:
    oldest, reason = floor
    assert Version(metadata.version(package)) >= Version(oldest), reason


def test_protobuf_parses_in_c() -> None:
    assert api_implementation.Type() == "upb"


@pytest.mark.parametrize("image", ["services", "triton"])
def test_images_install_nothing_without_a_hash(image: str) -> None:
    text = (REPOSITORY_ROOT / "k8s" / "images" / f"{image}.Dockerfile").read_text().replace("\\\n", " ")
    commands = [command for line in text.splitlines() for command in re.split(r"&&|\bRUN\b", line) if "pip " in command]
    assert commands
    for command in commands:
        local = "--no-index" in command or "--no-build-isolation" in command
        assert local or "--require-hashes" in command or "cmake" in command, command
