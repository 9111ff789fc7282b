"""`python -m services.generation`."""

import sys

from services.common.server import run
from services.common.settings import GenerationSettings
from services.generation.app import build

if __name__ == "__main__":
    sys.exit(run(GenerationSettings, build))
