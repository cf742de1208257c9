"""The routes of the project."""

from django.urls import path

from ingest import views

urlpatterns = [
    path("api/<int:project_id>/store/", views.store),
    path("api/<int:project_id>/store-sync/", views.store_sync),
    path("stats/", views.stats),
]
