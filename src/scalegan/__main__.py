"""`python -m scalegan`, as `torchrun` wants it."""

from scalegan.cli import main

if __name__ == "__main__":
    main()
