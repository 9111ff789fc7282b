"""Tiny models whose answers have a closed form: for tests of everything around a model."""
