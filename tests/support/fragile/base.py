"""SQLite with connections that can be lost, as those to a server are: Django's own engine takes each for usable."""

from __future__ import annotations

from django.db import DatabaseError
from django.db.backends.sqlite3 import base


class DatabaseWrapper(base.DatabaseWrapper):
    fails_to_close = False

    def is_usable(self) -> bool:
        try:
            self.connection.execute("SELECT 1")
        except base.Database.Error:
            return False
        return True

    def _close(self) -> None:
        super()._close()
        if self.fails_to_close:
            raise DatabaseError("cannot say goodbye")
