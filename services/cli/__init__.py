"""The command `naiad`."""
