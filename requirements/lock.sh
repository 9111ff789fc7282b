#!/usr/bin/env bash
# Writes the *.lock files beside it: every package of each environment, with the sha256 of its files on PyPI.
# Versions are those of constraints.txt. Needs uv (`make lock` installs it) and PyPI.
set -euo pipefail
cd "$(dirname "$0")/.."
compile() {
  local output=$1; shift
  "${UV:-uv}" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --native-tls \
    --constraint constraints.txt --custom-compile-command 'make lock' --output-file "requirements/$output" "$@"
}
# Of torch only the name would be left by the overrides.
without_torch=(--overrides requirements/overrides.txt)
for package in torch networkx setuptools; do without_torch+=(--no-emit-package "$package"); done
compile build.lock requirements/build.in
compile serve.lock pyproject.toml --extra otel --extra safety
compile export.lock pyproject.toml --extra export --extra otel --extra safety "${without_torch[@]}"
compile develop.lock pyproject.toml --extra export --extra dev --extra bench --extra otel --extra safety "${without_torch[@]}"
compile wheels.lock requirements/wheels.in --no-deps
