"""The dashboard's pages: two shells; what is on them comes over the API."""

from __future__ import annotations

from urllib.parse import quote

from flask import Blueprint, Response, make_response, redirect, render_template, request
from werkzeug.wrappers import Response as WerkzeugResponse

from web import auth

bp = Blueprint("pages", __name__)


def _page(template: str) -> Response:
    response = make_response(render_template(template))
    response.headers["Cache-Control"] = "no-store"
    return response


@bp.get("/")
@bp.get("/projects/<project_id>")
@bp.get("/projects/<project_id>/logs")
def app(project_id: str | None = None) -> Response | WerkzeugResponse:  # noqa: ARG001 - the page's own affair
    """The app's shell, for those who are signed in."""
    if auth.person() is None:
        wanted = request.full_path.rstrip("?")
        return redirect("/sign-in" if wanted == "/" else f"/sign-in?next={quote(wanted, safe='')}")
    return _page("shell.html")


@bp.get("/sign-in")
def sign_in() -> Response:
    """The sign-in page."""
    return _page("sign_in.html")
