"""Tomcat's manager application, as far as it makes Tomcat load certificates anew.

Manager App How-To, "Reload TLS Configuration" and "Using the JMX Proxy Servlet": answers are text with status 200, and
whether it went well stands in their first word, ``OK``, ``FAIL`` or ``Error``. ``OK`` means that Tomcat read the files,
not that their key belongs to their certificate.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Sequence

from connectors.endpoints.hook import plain
from connectors.endpoints.tomcat.settings import TomcatSettings
from connectors.errors import AuthorityFault, Permanent
from connectors.web import Answer, Web

_LONGEST_WORDS = 300


class Manager:
    """One manager application. A context manager: it closes its connection."""

    def __init__(self, settings: TomcatSettings, secret: Callable[[str], bytes]) -> None:
        """Resolves the password, which may block: call it in a thread. Raises as `resolve` does."""
        assert settings.manager_password is not None
        word = f"{settings.manager_user}:".encode() + secret(settings.manager_password)
        self._web = Web(
            "Tomcat's manager",
            settings.manager_url,
            ca_file=settings.manager_ca_file,
            headers={"authorization": f"Basic {base64.b64encode(word).decode()}"},
            plain=True,
        )

    async def __aenter__(self) -> Manager:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._web.close()

    async def reload_host(self, name: str) -> str:
        """Load the certificates of a TLS host anew, in every connector that has it. Gives Tomcat's words."""
        return self._words(
            await self._ask("/text/sslReload", {"tlsHostName": name}), "text interface", "manager-script"
        )

    async def reload_port(self, port: int) -> str:
        """Load the certificates of all hosts of the connectors on a port anew, by their JMX beans."""
        found = self._words(
            await self._ask("/jmxproxy/", {"qry": f"*:type=ProtocolHandler,port={port},*"}), "JMX proxy", "manager-jmx"
        )
        beans = re.findall(r"^Name: (.+)$", found, re.MULTILINE)
        if not beans:
            raise Permanent(f"{self._web.where} knows no connector on port {port}: is it another Tomcat's?")
        told = []
        for bean in beans:
            query = {"invoke": bean.strip(), "op": "reloadSslHostConfigs"}
            told.append(self._words(await self._ask("/jmxproxy/", query), "JMX proxy", "manager-jmx"))
        return "\n".join(told)

    async def _ask(self, path: str, query: dict[str, str]) -> Answer:
        return await self._web.get(path, query=dict(query))

    def _words(self, answer: Answer, interface: str, role: str) -> str:
        text = plain(answer.content.decode("utf-8", "replace")).strip()
        if answer.status != 200:
            raise Permanent(
                f"{self._web.where} has no {interface} (status {answer.status}): is the manager application deployed "
                f"there, and its user in the role {role}?"
            )
        if text.lower().startswith(("<!doctype", "<html")):
            raise AuthorityFault(f"{self._web.where} answered with a page in place of text: is its address right?")
        if not text.startswith("OK"):
            said = _first(text.splitlines())
            raise Permanent(f"{self._web.where} did not load the certificate: {said or 'it gives no reason'}.")
        return text


def _first(lines: Sequence[str]) -> str:
    """Tomcat's reason without the word that it begins with."""
    line = next((one.strip() for one in lines if one.strip()), "")
    return re.sub(r"^(FAIL|Error) - ", "", line)[:_LONGEST_WORDS].rstrip(".")
