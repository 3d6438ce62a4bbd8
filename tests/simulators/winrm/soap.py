"""WS-Management envelopes (MS-WSMV over SOAP 1.2): read and written."""

from __future__ import annotations

import base64
import uuid
from dataclasses import dataclass
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape

from defusedxml import ElementTree

NAMESPACES = {
    "s": "http://www.w3.org/2003/05/soap-envelope",
    "a": "http://schemas.xmlsoap.org/ws/2004/08/addressing",
    "w": "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd",
    "rsp": "http://schemas.microsoft.com/wbem/wsman/1/windows/shell",
    "x": "http://schemas.xmlsoap.org/ws/2004/09/transfer",
    "f": "http://schemas.microsoft.com/wbem/wsman/1/wsmanfault",
    "wsmid": "http://schemas.dmtf.org/wbem/wsman/identify/1/wsmanidentity.xsd",
    "pwsh": "http://schemas.microsoft.com/powershell",
}
SHELL = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
TRANSFER = "http://schemas.xmlsoap.org/ws/2004/09/transfer"
_DECLARED = " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in NAMESPACES.items() if prefix not in ("wsmid", "pwsh"))

ACCESS_DENIED = 5
ABORTED = 995
NO_SUCH_SHELL = 2150858843
TIMED_OUT = 2150858793
TOO_MANY_SHELLS = 2150859174
INVALID_RESOURCE = 2150858811


class Problem(Exception):
    """A WS-Management fault: its code and Windows's words."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@dataclass(frozen=True)
class Request:
    """What a client asks. `action` is empty for Identify, which has no header."""

    action: str
    message_id: str
    resource: str
    shell: str
    timeout: float
    body: Element


def read(content: bytes) -> Request:
    """Parse an envelope."""
    envelope = ElementTree.fromstring(content)
    body = envelope.find("s:Body", NAMESPACES)
    assert body is not None

    def header(path: str) -> str:
        return envelope.findtext(f"s:Header/{path}", "", NAMESPACES)

    selectors = envelope.findall("s:Header/w:SelectorSet/w:Selector", NAMESPACES)
    shell = next((one.text or "" for one in selectors if one.get("Name") == "ShellId"), "")
    timeout = float(header("w:OperationTimeout").removeprefix("PT").removesuffix("S") or 20)
    return Request(header("a:Action"), header("a:MessageID"), header("w:ResourceURI"), shell, timeout, body)


def identity() -> bytes:
    """The answer to Identify."""
    return (
        f'<s:Envelope xmlns:s="{NAMESPACES["s"]}"><s:Header/><s:Body>'
        f'<wsmid:IdentifyResponse xmlns:wsmid="{NAMESPACES["wsmid"]}">'
        "<wsmid:ProtocolVersion>http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd</wsmid:ProtocolVersion>"
        "<wsmid:ProductVendor>Microsoft Corporation</wsmid:ProductVendor>"
        "<wsmid:ProductVersion>OS: 10.0.20348 SP: 0.0 Stack: 3.0</wsmid:ProductVersion>"
        "</wsmid:IdentifyResponse></s:Body></s:Envelope>"
    ).encode()


def created(request: Request, shell: str) -> bytes:
    """The answer to Create."""
    return _envelope(
        request,
        f"{TRANSFER}/CreateResponse",
        "<x:ResourceCreated><a:Address>http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</a:Address>"
        f"<a:ReferenceParameters><w:ResourceURI>{escape(request.resource)}</w:ResourceURI><w:SelectorSet>"
        f'<w:Selector Name="ShellId">{escape(shell)}</w:Selector></w:SelectorSet></a:ReferenceParameters>'
        f"</x:ResourceCreated><rsp:Shell><rsp:ShellId>{escape(shell)}</rsp:ShellId>"
        f"<rsp:ResourceUri>{escape(request.resource)}</rsp:ResourceUri></rsp:Shell>",
    )


def deleted(request: Request) -> bytes:
    """The answer to Delete."""
    return _envelope(request, f"{TRANSFER}/DeleteResponse", "")


def commanded(request: Request, command: str) -> bytes:
    """The answer to Command."""
    body = f"<rsp:CommandResponse><rsp:CommandId>{escape(command)}</rsp:CommandId></rsp:CommandResponse>"
    return _envelope(request, f"{SHELL}/CommandResponse", body)


def done(request: Request, verb: str) -> bytes:
    """The answer to Send and Signal."""
    return _envelope(request, f"{SHELL}/{verb}Response", f"<rsp:{verb}Response/>")


def received(request: Request, command: str | None, data: bytes, *, ended: bool) -> bytes:
    """The answer to Receive."""
    of = f' CommandId="{escape(command)}"' if command else ""
    body = f'<rsp:Stream Name="stdout"{of}>{base64.b64encode(data).decode()}</rsp:Stream>'
    if command:
        body += f'<rsp:CommandState{of} State="{SHELL}/CommandState/{"Done" if ended else "Running"}"/>'
    return _envelope(request, f"{SHELL}/ReceiveResponse", f"<rsp:ReceiveResponse>{body}</rsp:ReceiveResponse>")


def fault(request: Request, problem: Problem) -> bytes:
    """A fault, which goes with HTTP status 500."""
    return _envelope(
        request,
        "http://schemas.dmtf.org/wbem/wsman/1/wsman/fault",
        "<s:Fault><s:Code><s:Value>s:Receiver</s:Value><s:Subcode><s:Value>w:InternalError</s:Value></s:Subcode>"
        f'</s:Code><s:Reason><s:Text xml:lang="en-US">{escape(problem.reason)}</s:Text></s:Reason><s:Detail>'
        f'<f:WSManFault Code="{problem.code}" Machine="web-1"><f:Message>{escape(problem.reason)}</f:Message>'
        "</f:WSManFault></s:Detail></s:Fault>",
    )


def _envelope(request: Request, action: str, body: str) -> bytes:
    return (
        f"<s:Envelope {_DECLARED}><s:Header><a:Action>{action}</a:Action>"
        f"<a:MessageID>uuid:{uuid.uuid4()}</a:MessageID><a:RelatesTo>{escape(request.message_id)}</a:RelatesTo>"
        "<a:To>http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</a:To></s:Header>"
        f"<s:Body>{body}</s:Body></s:Envelope>"
    ).encode()
