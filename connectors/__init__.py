"""Modules that know a foreign system: certificate authorities, endpoints, keystores and hosts."""
