"""`python -m vgm2p`: the command line."""

from vgm2p.cli import main

if __name__ == "__main__":
    main()
