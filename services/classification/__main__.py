"""`python -m services.classification`."""

import sys

from services.classification.app import build
from services.common.server import run
from services.common.settings import ClassificationSettings

if __name__ == "__main__":
    sys.exit(run(ClassificationSettings, build))
