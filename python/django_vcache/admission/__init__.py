"""Throttle, quota and enqueue in one round trip, and throttles for views.

Together, in an endpoint that takes in events::

    from django_vcache.admission import Gate, Quota, Stream, Throttle

    gate = Gate(
        throttles=[Throttle("org", "10000/m"), Throttle("project", "1000/m", key=("org", "project"))],
        quotas=[Quota("events", limit=1_000_000, period="month")],
        stream=Stream("events", maxlen=1_000_000),
        owner="org",
    )

    decision = await gate.aadmit({"org": 1, "project": 42}, payload=body, dedupe=event_id)
    if not decision:
        return decision.response()

On a view, sync or async::

    from django_vcache.admission import throttle

    @throttle("100/m", key="user_or_ip")
    def search(request): ...

The guide is ``docs/topics/admission.md`` in the source.
"""

from django_vcache import _vcache
from django_vcache._vcache import Decision, Gate, Quota, Refund, Refusal, RuleState, Stream, Throttle, parse_rate

# `Stream.consumer` looks for its class here. Imported now, it needs no file descriptor then.
from django_vcache.admission import consumer as _consumer  # noqa: F401
from django_vcache.admission.views.address import client_ip
from django_vcache.admission.views.counts import metrics
from django_vcache.admission.views.decorator import throttle
from django_vcache.admission.views.refusal import attach, decisions_of, limit_exceeded
from django_vcache.backend import publish_alias

__all__ = [
    "Decision",
    "Gate",
    "Quota",
    "Refund",
    "Refusal",
    "RuleState",
    "Stream",
    "Throttle",
    "attach",
    "client_ip",
    "decisions_of",
    "limit_exceeded",
    "metrics",
    "parse_rate",
    "throttle",
]

_vcache.on_unknown_alias(publish_alias)
