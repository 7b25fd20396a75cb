"""Addresses of history."""

from __future__ import annotations

from django.urls import path

from llmcompare.history import views, views_notices, views_saved, views_talk

app_name = "history"
urlpatterns = [
    path("history/", views.series_list, name="list"),
    path("history.csv", views.list_csv, name="csv"),
    path("history.json", views.list_json, name="json"),
    path("history/<slug:key>/", views.series, name="series"),
    path("history/<slug:key>.csv", views.series_csv, name="series-csv"),
    path("history/<slug:key>.json", views.series_json, name="series-json"),
    path("history/runs/<str:public_id>/mark/", views.mark, name="mark"),
    path("history/marks/<int:pk>/remove/", views.remove_mark, name="mark-remove"),
    path("history/marks/<int:pk>/restore/", views.restore_mark, name="mark-restore"),
    path("runs/<str:public_id>/tags/", views_talk.add_tags, name="tags"),
    path("runs/<str:public_id>/tags/remove/", views_talk.remove_tag, name="tag-remove"),
    path("runs/<str:public_id>/notes/", views_talk.write_notes, name="notes"),
    path("runs/<str:public_id>/notes/undo/", views_talk.undo_notes, name="notes-undo"),
    path("runs/<str:public_id>/comments/", views_talk.comment, name="comment"),
    path("runs/<str:public_id>/comments.json", views_talk.comments_json, name="comments-json"),
    path("comments/<int:pk>/edit/", views_talk.edit_comment, name="comment-edit"),
    path("comments/<int:pk>/undo/", views_talk.undo_comment, name="comment-undo"),
    path("comments/<int:pk>/delete/", views_talk.delete_comment, name="comment-delete"),
    path("comments/<int:pk>/restore/", views_talk.restore_comment, name="comment-restore"),
    path("views.json", views_saved.views_json, name="views-json"),
    path("views/save/", views_saved.save, name="view-save"),
    path("views/<slug:public_id>/", views_saved.open_view, name="view"),
    path("views/<slug:public_id>/change/", views_saved.change, name="view-change"),
    path("views/<slug:public_id>/delete/", views_saved.delete, name="view-delete"),
    path("views/<slug:public_id>/restore/", views_saved.restore, name="view-restore"),
    path("notices/", views_notices.notice_list, name="notices"),
    path("notices.csv", views_notices.notices_csv, name="notices-csv"),
    path("notices.json", views_notices.notices_json, name="notices-json"),
    path("notices/seen/", views_notices.seen, name="notices-seen"),
    path("notices/bell/", views_notices.badge, name="notices-badge"),
    path("accounts/notices/", views_notices.notice_settings, name="notice-settings"),
]
