"""Classification and embedding of text, over gRPC."""
