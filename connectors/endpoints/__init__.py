"""Endpoints: products that serve a certificate.

`contract.py` says what one must do, `procedure.py` does the install, `handshake.py` looks at what is served.
"""
