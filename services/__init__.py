"""Python gRPC services of naiad."""

import os

# gRPC's C core would write lines of its own between our JSON ones; what matters reaches Python as exceptions. It reads
# this once, when it is first imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
