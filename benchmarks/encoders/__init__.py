"""naiad's encoder beside its peers: `python -m benchmarks.encoders` (`make bench-encoder`)."""
