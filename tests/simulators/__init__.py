"""Stand-ins for systems that can't be installed here. Each is checked against a specification or a foreign client."""
