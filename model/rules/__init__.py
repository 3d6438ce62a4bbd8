"""Decisions as pure functions: what is so goes in, with the clock; what follows comes out."""
