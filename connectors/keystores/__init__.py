"""Keystores: where private keys are made and stay. `contract.py` says what one must do."""
