"""What a guest's hot path raises is what the wheel's would: classes of `django_vcache.exceptions`, with the alias in
the message, whether the setting, the value, the server or time is to blame.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
from django.test import override_settings
from support.caches import cache_setting
from support.fake import FakeServer, Peer
from support.guests import default_on
from support.programs import run_program
from support.server import ValkeyServer, wait_until

LIMITS = {"RESPONSE_TIMEOUT": 0.5, "CONNECT_TIMEOUT": 0.5}
DUMMY = {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}


def test_an_alias_that_nobody_configured(cache: Any, probe: ModuleType, way: Any) -> None:
    from django_vcache.exceptions import ConfigurationError

    with pytest.raises(ConfigurationError, match="'nowhere'"):
        way(probe).elsewhere("nowhere")
    assert way(probe).connection_id() == cache.execute("CLIENT", "ID")


def test_an_alias_of_another_backend(server: ValkeyServer, probe: ModuleType, way: Any) -> None:
    from django_vcache.exceptions import ConfigurationError

    caches = {"default": cache_setting(server), "dummy": DUMMY}
    told = r"'dummy'.*DummyCache, not django_vcache\.ValkeyCache"
    with override_settings(CACHES=caches), pytest.raises(ConfigurationError, match=told):
        way(probe).elsewhere("dummy")


@pytest.mark.parametrize(
    "alias", ["", "an alias", "ä", "x" * 1000, "nul\0"], ids=["empty", "space", "letter", "long", "nul"]
)
def test_an_alias_of_any_text_is_told_as_it_is(cache: Any, probe: ModuleType, way: Any, alias: str) -> None:
    from django_vcache.exceptions import ConfigurationError

    with pytest.raises(ConfigurationError) as caught:
        way(probe).elsewhere(alias)
    assert repr(alias) in str(caught.value)


def test_a_default_alias_of_another_backend() -> None:
    source = """
        import probe_guest, quota_guest

        def failure(call):
            try:
                call()
            except Exception as error:
                return [isinstance(error, exceptions.ConfigurationError), str(error)]

        async def awaited():
            await probe_guest.aconnection_id()

        report([failure(quota_guest.connection_id), failure(lambda: run(awaited()))])
    """
    for right, message in run_program(source, {"default": DUMMY}):
        assert right
        assert "'default'" in message
        assert "DummyCache, not django_vcache.ValkeyCache" in message


def test_no_settings_at_all() -> None:
    source = """
        import probe_guest
        from django.core.exceptions import ImproperlyConfigured
        settings._wrapped = type(settings._wrapped)(type("Empty", (), {}))
        try:
            probe_guest.connection_id()
        except Exception as error:
            report([type(error).__name__, isinstance(error, (ImproperlyConfigured, ImportError))])
    """
    name, right = run_program(source, {"default": DUMMY})
    assert right, name


def test_an_error_of_its_own(cache: Any, probe: ModuleType, way: Any) -> None:
    with pytest.raises(ValueError, match="the reason") as caught:
        way(probe).fails("the reason")
    assert type(caught.value) is ValueError


@pytest.mark.parametrize("why", ["", "ä€\U0001f600", "nul\0", "%s {0}", "line\nbreak", "x" * 100_000])
def test_an_error_of_any_text(cache: Any, probe: ModuleType, way: Any, why: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is compared below
        way(probe).fails(why)
    assert str(caught.value).endswith(why)


def test_arguments_of_the_wrong_type_are_refused_before_anything_is_sent(
    fresh_server: ValkeyServer, fresh_cache: Any, probe: ModuleType, quota: ModuleType, way: Any
) -> None:
    for call, arguments in [
        (way(probe).fetch, (1,)),
        (way(probe).fetch, ()),
        (way(probe).echo, ("text", 1)),
        (way(quota).spend, ("one",)),
    ]:
        with pytest.raises(TypeError):
            call(*arguments)
    with pytest.raises(OverflowError):
        way(quota).spend(-1)
    assert not {"get", "echo", "evalsha"} & set(fresh_server.command_counts())


def test_a_command_that_would_change_the_connection_for_others_is_refused(
    cache: Any, probe: ModuleType, way: Any
) -> None:
    own = cache.execute("CLIENT", "ID")
    for words in (["SELECT", "1"], ["MULTI"], ["SUBSCRIBE", "channel"], ["MONITOR"], ["CLIENT", "REPLY", "OFF"]):
        with pytest.raises(ValueError, match="cache 'default'"):
            way(probe).reply(words)
        with pytest.raises(ValueError, match="cache 'default'"):
            way(probe).pipeline([["PING"], words], False)
    assert way(probe).connection_id() == own


def test_a_server_that_is_gone(fresh_server: ValkeyServer, probe: ModuleType, quota: ModuleType, way: Any) -> None:
    from django_vcache.exceptions import ConnectionError

    with default_on(fresh_server, **LIMITS):
        assert way(probe).fetch("k") is None
        fresh_server.kill()
        for call, argument in ((way(probe).fetch, "k"), (way(quota).spend, 1), (way(probe).elsewhere, "default")):
            with pytest.raises(ConnectionError, match="cache 'default'") as caught:
                call(argument)
            assert type(caught.value) is ConnectionError
            assert fresh_server.socket_path in str(caught.value)
        fresh_server.restart()

        def back() -> bool:
            try:
                return way(probe).fetch("k") is None
            except ConnectionError:
                return False

        wait_until(back)


def test_a_server_that_does_not_answer_in_time(fresh_server: ValkeyServer, probe: ModuleType, way: Any) -> None:
    from django_vcache.exceptions import TimeoutError

    with default_on(fresh_server, **LIMITS):
        way(probe).fetch("k")
        fresh_server.pause()
        try:
            with pytest.raises(TimeoutError, match=r"cache 'default'.*0\.5 s") as caught:
                way(probe).fetch("k")
            assert type(caught.value) is TimeoutError
        finally:
            fresh_server.resume()


def test_a_connection_that_is_lost_in_the_middle_of_a_reply(probe: ModuleType, way: Any) -> None:
    from django_vcache.exceptions import ConnectionError

    def say(peer: Peer) -> None:
        peer.shake_hands()
        peer.command()
        peer.send(b"*3\r\n:1\r\n$5\r\nhal")

    with FakeServer(say) as fake, default_on(fake), pytest.raises(ConnectionError, match="cache 'default'"):
        way(probe).reply(["INCR", "n"])


def test_the_password_is_in_no_message(probe: ModuleType, way: Any) -> None:
    from django_vcache.exceptions import VcacheError

    with (
        ValkeyServer(requirepass="right-one") as server,
        default_on(server, PASSWORD="wrong-one", **LIMITS),
        pytest.raises(VcacheError) as caught,
    ):
        way(probe).fetch("k")
    assert "wrong-one" not in str(caught.value)
