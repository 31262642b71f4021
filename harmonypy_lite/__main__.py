"""``python -m harmonypy_lite`` is the program `harmonypy-lite`."""

from harmonypy_lite.cli import main

if __name__ == "__main__":
    main()
