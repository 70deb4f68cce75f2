"""Work in the background: what kinds there are, the queue as users see it, and who runs jobs."""
