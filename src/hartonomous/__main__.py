"""``python -m hartonomous`` is ``hart``."""

from hartonomous.cli.main import run

if __name__ == "__main__":
    run()
