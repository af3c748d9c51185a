"""Corpora: reading audio, manifests and their index, importers, tokens, features, loading."""
