"""`python -m judgeq`."""

import sys

from judgeq.cli import main

sys.exit(main())
