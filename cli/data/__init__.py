"""Bytes and sidecars in and out."""
