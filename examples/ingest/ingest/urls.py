"""The routes of the project. The hot ones are answered in Rust, before Django's handler is entered."""

from django.conf import settings
from django.urls import path
from tracker import views
from tracker.hot import aenvelope, astore

from django_vcache.routing import Cors, hot

# Pages of other sites send events too, and have to read when they may go on.
CORS = Cors("*", expose=["X-Sentry-Rate-Limits", "Retry-After"])
POST = {"methods": ["POST"], "limit": settings.INGEST_LARGEST_BODY, "cors": CORS}

urlpatterns = [
    hot("api/<int:project_id>/envelope/", aenvelope, name="envelope", **POST),
    hot("api/<int:project_id>/store/", astore, name="store", **POST),
    path("", views.index, name="index"),
    path("live/", views.live, name="live"),
    path("projects/<int:project_id>/", views.project, name="project"),
    path("projects/<int:project_id>/live/", views.live, name="project-live"),
    path("issues/<int:issue_id>/", views.issue, name="issue"),
    path("issues/<int:issue_id>/events/<uuid:event_id>/", views.issue, name="event"),
    path("static/<path:path>", views.static, name="static"),
]
