"""The requests of the API, found from the compiled protocol files."""

import importlib
from pathlib import Path

from google.protobuf.descriptor import Descriptor, FileDescriptor, MethodDescriptor

PROTOS = Path(__file__).parents[2] / "protos" / "naiad" / "v1"


def api_files() -> list[FileDescriptor]:
    """All protocol files of the API."""
    names = sorted(path.stem for path in PROTOS.glob("*.proto"))
    return [importlib.import_module(f"naiad.v1.{name}_pb2").DESCRIPTOR for name in names]


def api_methods() -> list[MethodDescriptor]:
    """All methods of all services."""
    services = [service for file in api_files() for service in file.services_by_name.values()]
    return [method for service in services for method in service.methods]


def request_types() -> dict[str, Descriptor]:
    """Every message that a request is made of, by name."""
    found: dict[str, Descriptor] = {}
    for method in api_methods():
        _add(method.input_type, found)
    return found


def _add(descriptor: Descriptor, found: dict[str, Descriptor]) -> None:
    if descriptor.name in found:
        return
    found[descriptor.name] = descriptor
    for field in descriptor.fields:
        child = field.message_type
        if child is not None and not child.GetOptions().map_entry:
            _add(child, found)
