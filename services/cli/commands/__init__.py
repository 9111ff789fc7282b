"""One module a command; each has `run(arguments) -> int` and is imported only when its command is called."""
