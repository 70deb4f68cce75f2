"""Numbered steps of the catalog's schema, applied by Alembic."""
