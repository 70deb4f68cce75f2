"""Parsers of file formats, and the limited child process that runs them."""
