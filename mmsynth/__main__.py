"""`python -m mmsynth` is the command line."""

from mmsynth.cli import main

if __name__ == "__main__":
    main()
