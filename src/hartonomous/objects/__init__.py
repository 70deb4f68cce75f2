"""Where bytes lie under a key: a local directory, memory."""
