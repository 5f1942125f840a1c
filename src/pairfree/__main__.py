"""``python -m pairfree``, which torchrun can start."""

from pairfree.cli.start import main

if __name__ == "__main__":
    main()
