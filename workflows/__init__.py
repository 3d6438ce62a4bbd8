"""What happens in which order. No I/O, no clocks, no randomness: those are `activities/`."""
