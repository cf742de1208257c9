"""What a project may send, and where its events wait for a worker: decided together, in one round trip."""

from django.conf import settings

from django_vcache.admission import Gate, Stream, Throttle

gate = Gate(
    throttles=[Throttle("project", f"{settings.INGEST_LIMIT}/{settings.INGEST_PERIOD}s")],
    # When it is full, further events are refused with a 503: the worker is behind, or not there.
    stream=Stream("events", maxlen=settings.INGEST_STREAM_MAXLEN),
)
