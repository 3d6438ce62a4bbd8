"""Files that are made while they are sent: memory stays flat, and the browser shows how far it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from dashboard import audit_filters
from dashboard.bridge import bridge
from dashboard.guard import sentence
from dashboard.web import gate
from model.errors import CertgateError, InvalidInput, NotFound, NotPermitted
from model.states import AccessMethod
from operations import audit_export
from operations.context import now
from worker.settings import DashboardSettings

_TYPES = {"csv": "text/csv; charset=utf-8", "jsonl": "application/jsonl; charset=utf-8"}
_STATUS = {InvalidInput: 400, NotPermitted: 403, NotFound: 404}


class Downloads:
    """Routes of files. The gate has let the browser in; who it is, is asked again, also while a long file is sent."""

    def __init__(self, dashboard: DashboardSettings) -> None:
        self._dashboard = dashboard

    def routes(self) -> Sequence[BaseRoute]:
        """The addresses of files."""
        return [Route(audit_filters.DOWNLOAD, self.audit, methods=["GET"])]

    async def audit(self, request: Request) -> Response:
        """The audit trail, as much of it as is wanted and may be read."""
        if request.method == "HEAD":
            # An export is audited: whoever asks for its headers only gets nothing that would be.
            return Response(status_code=405, headers={"allow": "GET"})
        try:
            return await to_thread.run_sync(self._audit, request)
        except CertgateError as error:
            return PlainTextResponse(sentence(error), _STATUS.get(type(error), 503))

    def _audit(self, request: Request) -> Response:
        wanted, form = audit_filters.read(request.query_params)
        actor = gate.recognize(request, self._dashboard).actor
        context = bridge().door.context(actor, AccessMethod.DASHBOARD)
        export = audit_export.export_csv if form == "csv" else audit_export.export_jsonl
        pieces = export(context, wanted)
        name = f"audit-{now():%Y%m%d-%H%M%S}.{form}"
        headers = {"content-disposition": f'attachment; filename="{name}"', "cache-control": "no-store"}
        return StreamingResponse(self._while_signed_in(request, pieces), media_type=_TYPES[form], headers=headers)

    def _while_signed_in(self, request: Request, pieces: Iterator[str]) -> Iterator[bytes]:
        for piece in pieces:
            # Raises when the session has ended meanwhile: the browser sees a file that breaks off.
            gate.recognize(request, self._dashboard)
            yield piece.encode()
