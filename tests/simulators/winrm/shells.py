"""Shells and the pipelines in them: what a WinRM service keeps between messages."""

from __future__ import annotations

import base64
import threading
import uuid
from dataclasses import dataclass, field

from pypsrp.messages import MessageType

from tests.simulators.winrm import psrp, soap
from tests.simulators.winrm.faults import Fault, Faults
from tests.simulators.winrm.signatures import bind
from tests.simulators.winrm.soap import Problem, Request
from tests.simulators.winrm.windows import ScriptError, Windows

WINDOWS_POWERSHELL = "Microsoft.PowerShell"


class Cut(Exception):
    """The connection is cut: no answer."""


class Silence(Exception):
    """No answer, and the connection stays."""


@dataclass
class Pipe:
    """What waits to be received, of a pool or of a pipeline."""

    data: bytes = b""
    ended: bool = False
    fault: Fault | None = None


@dataclass
class Shell:
    """One session of a client."""

    configuration: str
    conversation: psrp.Conversation
    pool: Pipe = field(default_factory=Pipe)
    pipelines: dict[str, Pipe] = field(default_factory=dict)


class Shells:
    """All sessions. `known` maps the text of a script to its name; `configurations` are JEA sessions, in which the
    names are functions and no script runs."""

    def __init__(self, windows: Windows, faults: Faults, known: dict[str, str], configurations: frozenset[str]) -> None:
        self._windows = windows
        self._faults = faults
        self._known = known
        self._texts = {name: text for text, name in known.items()}
        self._configurations = configurations
        self._shells: dict[str, Shell] = {}
        self._changed = threading.Condition()
        self.opened = 0

    @property
    def open(self) -> int:
        """How many sessions there are."""
        return len(self._shells)

    @property
    def running(self) -> int:
        """How many pipelines have not ended."""
        return sum(not pipe.ended for shell in list(self._shells.values()) for pipe in shell.pipelines.values())

    def answer(self, request: Request) -> bytes:
        """Do what a message asks; raises `Problem`, `Cut`, `Silence`."""
        verb = request.action.rpartition("/")[2]
        handler = {
            "Create": self._create,
            "Delete": self._delete,
            "Command": self._command,
            "Send": self._send,
            "Receive": self._receive,
            "Signal": self._signal,
        }.get(verb)
        if handler is None:
            raise Problem(soap.INVALID_RESOURCE, f"The action {request.action} is not supported.")
        with self._changed:
            return handler(request)

    def wake(self) -> None:
        """End every wait."""
        with self._changed:
            self._shells.clear()
            self._changed.notify_all()

    def _create(self, request: Request) -> bytes:
        fault = self._faults.take(None, Fault.QUOTA, Fault.NO_SESSION)
        if fault is Fault.QUOTA:
            raise Problem(
                soap.TOO_MANY_SHELLS,
                "The WS-Management service cannot process the request. This user is allowed a maximum number of 30 "
                "concurrent shells, which has been exceeded.",
            )
        configuration = request.resource.rpartition("/")[2]
        if fault is Fault.NO_SESSION or configuration not in {WINDOWS_POWERSHELL, *self._configurations}:
            raise Problem(soap.ACCESS_DENIED, "Access is denied.")
        element = request.body.find("rsp:Shell", soap.NAMESPACES)
        assert element is not None
        identifier = element.get("ShellId") or str(uuid.uuid4()).upper()
        shell = Shell(configuration, psrp.Conversation(identifier))
        content = element.findtext("pwsh:creationXml", "", soap.NAMESPACES)
        kinds = [message.kind for message in shell.conversation.receive(base64.b64decode(content))]
        assert kinds == [MessageType.SESSION_CAPABILITY, MessageType.INIT_RUNSPACEPOOL]
        shell.pool.data = shell.conversation.opening()
        self._shells[identifier] = shell
        self.opened += 1
        return soap.created(request, identifier)

    def _delete(self, request: Request) -> bytes:
        self._of(request)
        del self._shells[request.shell]
        self._changed.notify_all()
        return soap.deleted(request)

    def _command(self, request: Request) -> bytes:
        shell, line = self._of(request), request.body.find("rsp:CommandLine", soap.NAMESPACES)
        assert line is not None
        command = line.get("CommandId") or str(uuid.uuid4()).upper()
        shell.pipelines[command] = Pipe()
        self._take_in(request, shell, command, line.findtext("rsp:Arguments", "", soap.NAMESPACES))
        return soap.commanded(request, command)

    def _send(self, request: Request) -> bytes:
        shell, stream = self._of(request), request.body.find("rsp:Send/rsp:Stream", soap.NAMESPACES)
        assert stream is not None
        self._take_in(request, shell, stream.get("CommandId"), stream.text or "")
        return soap.done(request, "Send")

    def _take_in(self, request: Request, shell: Shell, command: str | None, encoded: str) -> None:
        for message in shell.conversation.receive(base64.b64decode(encoded)):
            if message.kind == MessageType.PUBLIC_KEY:
                shell.pool.data += shell.conversation.session_key(message)
            elif message.kind == MessageType.CREATE_PIPELINE:
                assert command is not None
                self._run(request, shell, command, shell.conversation.commands_of(message))
            else:
                raise AssertionError(f"the simulator does not know message {message.kind:#x}")

    def _run(self, request: Request, shell: Shell, command: str, commands: list[psrp.Command]) -> None:
        """Run a pipeline to its end, unless a fault is due."""
        pipe, name = shell.pipelines[command], self._name(shell, commands)
        if isinstance(name, ScriptError):
            pipe.data, pipe.ended = shell.conversation.end(command, str(name)), True
            return
        fault = self._faults.take(
            name, Fault.CUT_BEFORE, Fault.CUT_AFTER, Fault.KILLED, Fault.SILENT, Fault.ENDLESS, Fault.OTHER_OUTPUT
        )
        if fault is Fault.CUT_BEFORE:
            raise Cut
        if fault is Fault.KILLED:
            del self._shells[request.shell]
            return
        if fault in (Fault.SILENT, Fault.ENDLESS):
            pipe.fault = fault
            return
        try:
            outputs = self._windows.run(name, bind(self._texts[name], commands[0].parameters))
        except (ScriptError, ValueError) as error:
            pipe.data = shell.conversation.end(command, str(error))
        else:
            if fault is Fault.OTHER_OUTPUT:
                outputs = [{"Nothing": "known"}, {"Nothing": "known"}]
            parts = [shell.conversation.output(command, output) for output in outputs]
            pipe.data = b"".join(parts) + shell.conversation.end(command)
        pipe.ended = True
        pipe.fault = fault if fault is Fault.CUT_AFTER else None

    def _name(self, shell: Shell, commands: list[psrp.Command]) -> str | ScriptError:
        """Which of certgate's scripts a pipeline is."""
        if len(commands) != 1:
            return ScriptError("The simulator runs one script at a time.")
        [command] = commands
        if not command.is_script:
            if shell.configuration in self._configurations and command.text in self._texts:
                return command.text
            return ScriptError(f"The term '{command.text}' is not recognized as the name of a cmdlet or function.")
        if shell.configuration in self._configurations:
            return ScriptError("The syntax is not supported by this runspace. This can occur in no-language mode.")
        return self._known.get(command.text) or ScriptError("The simulator does not know this script.")

    def _receive(self, request: Request) -> bytes:
        element = request.body.find("rsp:Receive/rsp:DesiredStream", soap.NAMESPACES)
        assert element is not None
        command = element.get("CommandId")

        def pipe() -> Pipe:
            shell = self._of(request)
            return shell.pool if command is None else shell.pipelines[command]

        if pipe().fault is Fault.CUT_AFTER:
            raise Cut
        if pipe().fault is Fault.SILENT:
            raise Silence
        if not self._changed.wait_for(lambda: request.shell not in self._shells or bool(pipe().data), request.timeout):
            raise Problem(soap.TIMED_OUT, "The WS-Management service cannot complete the operation within the time.")
        ready = pipe()
        data, ready.data = ready.data, b""
        return soap.received(request, command, data, ended=ready.ended)

    def _signal(self, request: Request) -> bytes:
        shell, element = self._of(request), request.body.find("rsp:Signal", soap.NAMESPACES)
        assert element is not None
        command, code = element.get("CommandId") or "", element.findtext("rsp:Code", "", soap.NAMESPACES)
        if self._faults.take(None, Fault.CUT_AT_END):
            raise Cut
        if command in shell.pipelines and not shell.pipelines[command].ended:
            ended = shell.conversation.end(command, state=psrp.STOPPED)
            shell.pipelines[command] = Pipe(data=ended, ended=True)
            self._changed.notify_all()
        elif code.endswith("/terminate"):
            shell.pipelines.pop(command, None)
        return soap.done(request, "Signal")

    def _of(self, request: Request) -> Shell:
        if request.shell not in self._shells:
            raise Problem(
                soap.NO_SUCH_SHELL,
                f"The request for the Windows Remote Shell with ShellId {request.shell} failed because the shell was "
                "not found on the server.",
            )
        return self._shells[request.shell]
