"""What every service needs: settings, server, errors, metrics, models, and the way to Triton."""
