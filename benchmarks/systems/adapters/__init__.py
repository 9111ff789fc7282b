"""One module a system; each has `create()`, which imports nothing heavy: that is left to `load`."""
