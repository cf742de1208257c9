"""Django's own session tests, sync and async, on our backend: copied into Django's
`tests/sessions_tests/` and run there by its runtests.py, never by pytest.
"""

import os

from django.core.cache import caches
from django.test import override_settings
from sessions_tests import tests as django_tests

OURS = {"BACKEND": "django_vcache.ValkeyCache", "LOCATION": os.environ["VCACHE_URL"]}


@override_settings(CACHES={"default": OURS})
class CacheSessions(django_tests.CacheSessionTests):
    @override_settings(
        CACHES={
            "default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"},
            "sessions": OURS,
        },
        SESSION_CACHE_ALIAS="sessions",
    )
    def test_alias_of_ours(self):
        self.session = self.backend()
        self.session.save()
        assert caches["default"].get(self.session.cache_key) is None
        assert caches["sessions"].get(self.session.cache_key) is not None


@override_settings(CACHES={"default": OURS})
class CachedDatabaseSessions(django_tests.CacheDBSessionTests):
    pass
