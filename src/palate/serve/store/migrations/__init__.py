"""Migrations of the store's schema; :mod:`palate.serve.store.schema` runs them."""
