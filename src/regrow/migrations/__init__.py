"""Steps of the store's schema, one file each, never edited once released."""
