"""Hosts: how to reach files and commands of a machine. `contract.py` says what one must do."""
