"""Why the system could not start or go on."""


class StartError(Exception):
    """The system cannot start or go on; the message is one line that says what is wrong and how to mend it."""
