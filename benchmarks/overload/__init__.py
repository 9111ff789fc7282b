"""How the services behave when more work comes than can be done: `python -m benchmarks.overload`."""
