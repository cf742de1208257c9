"""One address for each view."""

from django.urls import path

from . import views

urlpatterns = [
    path(f"{view.__name__}/", view)
    for view in (views.nothing, views.nothing_sync, views.store, views.six, views.six_sync, views.mix)
]
