"""The words of certgate: records, states, messages, and decisions as pure functions. Nothing here knows a network."""
