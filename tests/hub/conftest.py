"""The databases of the hub's tests."""

from support.hub_databases import database_url, open_stores, postgres, prepared_url

__all__ = ["database_url", "open_stores", "postgres", "prepared_url"]
