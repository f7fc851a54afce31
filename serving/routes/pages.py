"""`/` and `/docs`: pages for people. Everything they load comes from here, so that they work offline."""

from functools import cache
from importlib.resources import files

from fastapi import FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response

_ASSETS = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
}
# No request of either page may leave this server; both carry their script and style inline.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline';"
    " img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'"
)
_PAGE_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
_ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E"
    "%3Ctext y='13' font-size='13'%3E%E2%99%AB%3C/text%3E%3C/svg%3E"
)


@cache
def _asset(name: str) -> bytes:
    return (files("fastapi_offline") / "static" / name).read_bytes()


@cache
def _home() -> str:
    return (files("serving") / "pages" / "home.html").read_text(encoding="utf-8")


async def home() -> Response:
    """Search the catalogue and look at recommendations."""
    return HTMLResponse(_home(), headers=_PAGE_HEADERS)


async def docs(request: Request) -> Response:
    """The API's reference, to read and to try."""
    root = request.scope.get("root_path", "")
    page = get_swagger_ui_html(
        openapi_url=f"{root}/openapi.json",
        title="MESS-AI API",
        swagger_js_url=f"{root}/docs/swagger-ui-bundle.js",
        swagger_css_url=f"{root}/docs/swagger-ui.css",
        swagger_favicon_url=_ICON,
    )
    return HTMLResponse(bytes(page.body), headers=_PAGE_HEADERS)


async def docs_asset(name: str) -> Response:
    """Script and style of the reference."""
    if name not in _ASSETS:
        raise HTTPException(404)
    return Response(_asset(name), media_type=_ASSETS[name], headers={"cache-control": "max-age=86400"})


def register(app: FastAPI) -> None:
    """Add this module's paths."""
    for path, endpoint in (("/", home), ("/docs", docs), ("/docs/{name}", docs_asset)):
        app.add_api_route(path, endpoint, methods=["GET"], include_in_schema=False)
