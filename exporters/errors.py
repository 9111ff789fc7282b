"""The one error that an export ends with when the input, not naiad, is at fault."""


class ExportError(Exception):
    """Why a checkpoint was not exported, in one line that names what to change."""
