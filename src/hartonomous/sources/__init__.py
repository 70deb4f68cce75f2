"""What can be added: files, model folders, trees, hub caches, Ollama's blobs, standard input."""
