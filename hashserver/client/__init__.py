"""The HTTP client: the interfaces of store and database, over sockets."""
