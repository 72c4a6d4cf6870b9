"""How fast the machine trains and embeds with this project: `python -m shared.benchmark`."""
