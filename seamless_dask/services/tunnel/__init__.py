"""A daskserver on another host, reached over ssh."""
