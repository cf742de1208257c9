"""One address for each view. What a row has beside the plain views is named by `rows.py`."""

import json
import os

from django.urls import path

from . import views

_MORE = json.loads(os.environ["BENCH"])["urls"]

urlpatterns = [
    path(f"{view.__name__}/", view)
    for view in (views.nothing, views.nothing_sync, views.store, views.six, views.six_sync, views.mix, views.check)
]

if "ingest" in _MORE:
    from . import ingest

    urlpatterns.append(path("ingest/<int:project_id>/", ingest.ingest))

if "gate" in _MORE:
    from . import gate

    urlpatterns.append(path("gate/<int:project_id>/", gate.ingest))

if "python" in _MORE:
    from django_vcache.routing import hot

    from . import gate

    urlpatterns += [
        hot("python_ingest/<int:project_id>/", gate.hot_ingest, methods=["POST"]),
        hot("python_check/", gate.hot_check, methods=["POST"]),
    ]

if "rust" in _MORE:
    import bench_guest

    from django_vcache.routing import hot

    urlpatterns += [
        hot("hot_ingest/<int:project_id>/", bench_guest.aingest, methods=["POST"]),
        hot("hot_envelope/<int:project_id>/", bench_guest.aenvelope, methods=["POST"]),
        hot("hot_check/", bench_guest.acheck, methods=["POST"]),
    ]
