"""Bounds that are the same for every host."""

LARGEST_FILE = 16 * 1024 * 1024
LARGEST_OUTPUT = 64 * 1024
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
