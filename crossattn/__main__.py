"""``python -m crossattn`` is the ``crossattn`` command."""

import sys

from crossattn.cli import main

sys.exit(main())
