"""Ends a process group when the process that started this one is gone, however it went.

Run as a program by `processes`: it leads the group that all the others join, and holds the reading end of a pipe whose
only writing end is in the test process. End of file means that process is no more, even after `kill -9`.
"""

import os
import shutil
import signal
import sys


def main() -> None:
    """Wait for the end of standard input, then kill this process's group and remove the folders given as arguments."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    group = os.getpgrp()
    if os.fork() == 0:
        os.setsid()  # out of the group, to live long enough to clean up
        os.killpg(group, signal.SIGKILL)
        for folder in sys.argv[1:]:
            for _ in range(3):  # a dying process may still write once
                shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
