"""`/` and `/docs`: pages for people. All their files are served from here, so they work offline."""

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

from fastapi import FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response

_ASSETS = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
}
_KINDS: Final = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
# Scripts and styles come from this server only, and scripts may not turn text into markup. Sound may come from elsewhere: a
# catalogue's own previews.
PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " media-src 'self' https:; base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
    " require-trusted-types-for 'script'; trusted-types 'none'"
)
# Swagger UI has inline script and styles.
_DOCS_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline';"
    " img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'"
)
_GUARDS = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}
_ICON = "page/icon.svg"


@dataclass(frozen=True, slots=True)
class PageFile:
    """A file of the page, ready to send."""

    body: bytes
    media_type: str
    tag: str


@cache
def _asset(name: str) -> bytes:
    return (files("fastapi_offline") / "static" / name).read_bytes()


@cache
def _home() -> str:
    return (files("serving") / "pages" / "index.html").read_text(encoding="utf-8")


@cache
def page_files() -> dict[str, PageFile]:
    """Every script, style and picture of the page, by its path below `/page/`."""
    root = files("serving") / "pages"
    found = {}
    for folder in ("", "scripts", "styles"):
        for file in (root / folder if folder else root).iterdir():
            kind = _KINDS.get(file.name[file.name.rfind(".") :])
            if kind is not None:
                body = file.read_bytes()
                tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
                found[f"{folder}/{file.name}".lstrip("/")] = PageFile(body, kind, tag)
    return found


async def home() -> Response:
    """Search the catalogue and look at recommendations."""
    return HTMLResponse(_home(), headers={**_GUARDS, "content-security-policy": PAGE_POLICY})


async def page_file(request: Request, name: str) -> Response:
    """A script, a style or a picture of the page; a conditional request gets it only if it has changed."""
    file = page_files().get(name)
    if file is None:
        raise HTTPException(404)
    headers = {**_GUARDS, "etag": file.tag, "cache-control": "no-cache"}
    if request.headers.get("if-none-match") == file.tag:
        return Response(status_code=304, headers=headers)
    return Response(file.body, media_type=file.media_type, headers=headers)


async def docs(request: Request) -> Response:
    """The API's reference, to read and to try."""
    root = request.scope.get("root_path", "")
    page = get_swagger_ui_html(
        openapi_url=f"{root}/openapi.json",
        title="MESS-AI API",
        swagger_js_url=f"{root}/docs/swagger-ui-bundle.js",
        swagger_css_url=f"{root}/docs/swagger-ui.css",
        swagger_favicon_url=f"{root}/{_ICON}",
    )
    return HTMLResponse(bytes(page.body), headers={**_GUARDS, "content-security-policy": _DOCS_POLICY})


async def docs_asset(name: str) -> Response:
    """Script and style of the reference."""
    if name not in _ASSETS:
        raise HTTPException(404)
    return Response(_asset(name), media_type=_ASSETS[name], headers={"cache-control": "max-age=86400"})


def register(app: FastAPI) -> None:
    """Add this module's paths."""
    for path, endpoint in (
        ("/", home),
        ("/page/{name:path}", page_file),
        ("/docs", docs),
        ("/docs/{name}", docs_asset),
    ):
        app.add_api_route(path, endpoint, methods=["GET"], include_in_schema=False)
