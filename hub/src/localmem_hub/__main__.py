"""`python -m localmem_hub`: the command line."""

from localmem_hub.cli import main

main()
