"""Files of texts through ClassifyStream: rows in, rows out, resumable."""
