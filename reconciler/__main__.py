"""`python -m reconciler` is the same as the console script."""

from reconciler.commands import main

if __name__ == "__main__":
    main()
