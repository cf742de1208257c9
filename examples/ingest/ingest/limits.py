"""The gate of the hot routes, for Python: the consumer reads its stream, and the pages ask what a project has used.

`ingest_hot/src/admission.rs` has the same gate, with the same names, and admits by it. Each project has limits of its
own, so both are told them with each call.
"""

from django.conf import settings

from django_vcache.admission import Gate, Quota, Stream, Throttle

gate = Gate(
    throttles=[Throttle("project", "600/m")],
    quotas=[Quota("events", -1, "month"), Quota("bytes", -1, "month")],
    # When it is full, further events are refused with a 503: the consumer is behind, or not there.
    stream=Stream("events", maxlen=settings.INGEST_STREAM_MAXLEN),
    owner="project",
)
