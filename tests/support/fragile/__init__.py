"""A database engine for tests of lost connections, see :mod:`.base`."""
