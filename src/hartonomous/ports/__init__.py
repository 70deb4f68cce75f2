"""The protocols that adapters and plug-ins implement, and the promises they make."""
