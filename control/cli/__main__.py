"""`python -m control.cli`: the same as `mxctl`."""

from control.cli import main

main()
