"""Readers of documents: the text of a file, for search. They run in a limited child process."""
