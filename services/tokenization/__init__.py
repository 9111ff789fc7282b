"""Text to token ids and back, over gRPC."""
