"""python -m aggregator is the command spillover."""

from aggregator.cli import main

if __name__ == "__main__":
    main()
