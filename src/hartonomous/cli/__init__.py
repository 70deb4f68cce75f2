"""The command line ``hart``: one file a command, listed in ``commands.py`` and loaded on use."""
