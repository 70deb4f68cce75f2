"""What SQLite and PostgreSQL are told each in its own way: connections, transactions, errors."""
