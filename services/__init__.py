"""Python gRPC services of naiad."""
