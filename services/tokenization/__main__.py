"""`python -m services.tokenization`."""

import sys

from services.common.server import run
from services.common.settings import TokenizationSettings
from services.tokenization.app import build

if __name__ == "__main__":
    sys.exit(run(TokenizationSettings, build))
