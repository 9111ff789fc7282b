"""Builds the protobuf code into the wheel; everything else about the distribution is in pyproject.toml."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildProtosThenPython(build_py):
    """Generates `naiad.v1` from `protos/` before the Python files are collected."""

    def run(self) -> None:
        import google.rpc
        from grpc_tools import protoc

        protos = Path(__file__).parent / "protos"
        googleapis = Path(next(iter(google.rpc.__path__))).parents[1]
        arguments = ["protoc", f"-I{protos}", f"-I{googleapis}", f"-I{Path(protoc.__file__).parent / '_proto'}"]
        arguments += [f"--{kind}_out={protos}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
        arguments += [str(path) for path in sorted(protos.glob("naiad/v1/*.proto"))]
        if protoc.main(arguments) != 0:
            raise SystemExit("error: protoc could not build the files in protos/")
        super().run()


setup(cmdclass={"build_py": BuildProtosThenPython})
