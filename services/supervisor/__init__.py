"""Starts Triton and the services, watches them, restarts what dies and stops everything in order."""
