"""How small the cache can get."""
