"""The only package with SQL: names, versions, tensors, places of bytes."""
