"""Text generation over gRPC."""
