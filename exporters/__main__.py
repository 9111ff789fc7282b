"""python -m exporters CHECKPOINT --name NAME."""

import sys

from exporters.cli import main

sys.exit(main())
