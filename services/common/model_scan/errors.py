"""Why an entry is refused."""


class ModelScanError(ValueError):
    """An entry, or a file of it, is refused. The message is one line, `FILE: cause`, and quotes nothing of the file."""

    def __init__(self, file: str, cause: str) -> None:
        super().__init__(f"{file}: {cause}")
        self.file = file
        self.cause = cause
