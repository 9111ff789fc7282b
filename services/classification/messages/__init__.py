"""Messages of naiad.v1.ClassificationService: requests to options, results to responses. One module an RPC."""
