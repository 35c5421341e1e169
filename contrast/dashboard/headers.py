"""What every answer tells the browser to keep to."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["SafeHeaders"]

# The list's own. A report page has a policy of its own in itself, which allows the scripts that are in it.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
REPORT_POLICY = "frame-ancestors 'none'"
REPORTS = ("/run/", "/compare")


class SafeHeaders:
    """Adds to each answer: load nothing from elsewhere, stand in no frame, be read by no other site, send no referrer.

    Args:
        app: what answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                report = str(scope.get("path", "")).startswith(REPORTS) and message["status"] == 200
                headers["content-security-policy"] = REPORT_POLICY if report else POLICY
                headers["x-content-type-options"] = "nosniff"
                headers["referrer-policy"] = "no-referrer"
                headers["cross-origin-resource-policy"] = "same-origin"
            await send(message)

        await self.app(scope, receive, send_with)
