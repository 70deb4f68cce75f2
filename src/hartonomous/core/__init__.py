"""Pure values and algorithms: no files, no sockets, no processes, no clock."""
