"""`python -m tests.corpus DIR`: replay a folder of recordings, or one, and say where we differ.

Exit codes: 0 nothing differs but what is meant to, 1 differences, 2 the folder, or one in it, is not of that form.
"""

import logging
import os
import sys
import tempfile
from pathlib import Path

import structlog

from tests.corpus import differences, judge, scenario


def main(arguments: list[str]) -> int:
    """Replay and report."""
    if len(arguments) != 1:
        print("usage: make corpus DIR=a-folder-of-scenarios-or-one", file=sys.stderr)
        return 2
    try:
        return max(_report(folder) for folder in scenario.scenarios(Path(arguments[0])))
    except scenario.NotAScenario as error:
        print(error, file=sys.stderr)
        return 2


def _be_quiet() -> None:
    """Take nothing from whoever runs this, and keep the log of the passes to ourselves."""
    for name in [name for name in os.environ if name.startswith(("GIT_", "RECONCILER_"))]:
        del os.environ[name]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))


def _report(folder: Path) -> int:
    """Replay one scenario, say what came of it, and return its exit code."""
    try:
        with tempfile.TemporaryDirectory() as place:
            judged = judge.judge(scenario.read(folder), Path(place))
    except scenario.NotAScenario as error:
        print(f"not replayed\t{folder.name}: {error}", file=sys.stderr)
        return 2
    left = differences.unexplained(judged.differing)
    names = sorted({row.name for each in judged.differing if (row := differences.reason_of(each))})
    print(f"{'differs' if left else 'ok'}\t{folder.name}" + (f" (on purpose: {', '.join(names)})" if names else ""))
    for line in (*judged.notes, *left):
        print(f"  {line}")
    return 1 if left else 0


if __name__ == "__main__":
    _be_quiet()
    sys.exit(main(sys.argv[1:]))
