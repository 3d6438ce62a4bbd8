"""Certificate authorities. `contract.py` says what one must do."""
