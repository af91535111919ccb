"""Which tests share a worker when several run at once: those of a file, and so its fixtures.

Looks at names alone, since the process that hands out the tests has not collected them.
"""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

ONE_DEMO = frozenset(f"tests/test_browser{what}.py" for what in ("", "_access", "_calibrate", "_sweep", "_takeaway"))
"""Files that meet the same server of the demo, with the embedded model."""
HARNESS = frozenset(
    f"tests/test_{what}.py" for what in ("cli", "documented_commands", "lm_eval_model", "longbench", "ruler")
)
"""Files that use lm-eval, which takes ten seconds to import its generators and to read its tasks."""
ALONE = "::test_a_clean_kernel_gives_the_stored_outputs["
"""A notebook each, which share nothing."""


def group(test: str) -> str:
    """The name of what stays together with a test, which is given as `FILE::NAME`."""
    file = test.partition("::")[0]
    if ALONE in test:
        return test
    return "demo" if file in ONE_DEMO else "harness" if file in HARNESS else file


class Spread(LoadScopeScheduling):
    """Hands out whole groups, in the order in which they were collected."""

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)
