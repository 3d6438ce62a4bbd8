"""A Tomcat of our own: Debian's, with a CATALINA_BASE in a folder of its own, on loopback, ended by process id.

A Java virtual machine is slow to start, so that one Tomcat has a TLS host of each kind, and a product is one of them.
"""

from __future__ import annotations

import re
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.error import HTTPError, URLError

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from connectors.archives.contract import Passphrases
from connectors.endpoints.contract import Material, Place
from connectors.endpoints.keystores import KeystoreEntry
from tests.support.installing import ThrowawayAuthority
from tests.support.products import shown
from tests.support.programs import program
from worker.playground import self_signed
from worker.processes import free_port

HOME = Path("/usr/share/tomcat10")
MANAGER = Path("/usr/share/tomcat10-admin/manager")
STORE_WORD = "store & <pass>"
KEY_WORD = "key-pass"
MANAGER_WORD = "manager-pass"
# A small machine that starts fast and need not become fast.
JAVA = ("-Xms24m", "-Xmx96m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")

SERVER_XML = """<?xml version="1.0" encoding="UTF-8"?>
<Server port="-1" shutdown="SHUTDOWN">
  <Service name="Catalina">
    <Connector port="{plain}" address="127.0.0.1" protocol="HTTP/1.1" minSpareThreads="1" maxThreads="8"/>
    <Connector port="{tls}" address="127.0.0.1" protocol="HTTP/1.1" SSLEnabled="true" minSpareThreads="1"
               maxThreads="8" scheme="https" secure="true" defaultSSLHostConfigName="p12.example">
      <SSLHostConfig hostName="p12.example">
        <Certificate certificateKeystoreFile="tls/p12/keys.p12" certificateKeystoreType="PKCS12"
                     certificateKeystorePasswordFile="tls/store-pass" certificateKeyAlias="WebServer"/>
      </SSLHostConfig>
      <SSLHostConfig hostName="JKS.example">
        <Certificate certificateKeystoreFile="${{tls.folder}}/jks/keys.jks"
                     certificateKeystorePassword="{store}" certificateKeyPassword="{key}"/>
      </SSLHostConfig>
      <SSLHostConfig hostName="pem.example">
        <Certificate certificateFile="${{catalina.base}}/tls/pem/leaf.pem" certificateKeyFile="tls/pem/key.pem"
                     certificateChainFile="tls/pem/chain.pem" certificateKeyPassword="{key}"/>
      </SSLHostConfig>
      <SSLHostConfig hostName="*.wild.example">
        <Certificate certificateFile="tls/wild/both.pem"/>
      </SSLHostConfig>
      <SSLHostConfig hostName="two.example">
        <Certificate certificateFile="tls/two/rsa.pem" certificateKeyFile="tls/two/rsa.key" type="RSA"/>
        <Certificate certificateFile="tls/two/ec.pem" certificateKeyFile="tls/two/ec.key" type="EC"/>
      </SSLHostConfig>
      {more}
    </Connector>
    <Engine name="Catalina" defaultHost="localhost">
      <Realm className="org.apache.catalina.realm.MemoryRealm"/>
      <Host name="localhost" appBase="webapps" unpackWARs="false" autoDeploy="false" deployOnStartup="true"/>
    </Engine>
  </Service>
</Server>
"""

USERS = f"""<?xml version="1.0" encoding="UTF-8"?>
<tomcat-users xmlns="http://tomcat.apache.org/xml" version="1.0">
  <user username="certgate" password="{MANAGER_WORD}" roles="manager-script"/>
  <user username="bean" password="{MANAGER_WORD}" roles="manager-jmx"/>
  <user username="nobody" password="{MANAGER_WORD}" roles="none"/>
</tomcat-users>
"""


class DisposableTomcat:
    """One Tomcat, which is not started yet. A context manager: it is started then."""

    def __init__(self, folder: Path) -> None:
        self.base = folder
        self.plain_port, self.tls_port = free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None
        for name in ("conf/Catalina/localhost", "logs", "temp", "work", "webapps", "tls/p12", "tls/jks", "tls/pem"):
            (folder / name).mkdir(parents=True)
        for name in ("tls/wild", "tls/two"):
            (folder / name).mkdir()
        (folder / "conf/tomcat-users.xml").write_text(USERS)
        (folder / "conf/web.xml").write_text('<web-app xmlns="https://jakarta.ee/xml/ns/jakartaee" version="6.0"/>')
        (folder / "conf/catalina.properties").write_text(
            "# What Tomcat's own has, and no looking through jars, which takes a second.\n"
            'common.loader="${catalina.home}/lib/*.jar"\n'
            "tomcat.util.scan.StandardJarScanFilter.jarsToSkip=*.jar\n"
            "tls.folder = ${catalina.base}/\\\n    tls\n"
        )
        # The same application twice, so that one may stop the other.
        for name in ("manager", "ops"):
            (folder / f"conf/Catalina/localhost/{name}.xml").write_text(
                f'<Context docBase="{MANAGER}" privileged="true" antiResourceLocking="false"/>'
            )
        word = folder / "manager-pass"
        word.touch(0o600)
        word.write_text(MANAGER_WORD)
        (folder / "tls/store-pass").write_text(f"{STORE_WORD}\nand a second line\n")
        self.write_configuration()
        self._first_certificates()

    def __enter__(self) -> DisposableTomcat:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def configuration(self) -> Path:
        """The server.xml."""
        return self.base / "conf/server.xml"

    @property
    def settings(self) -> dict[str, Any]:
        """Of an endpoint."""
        return {
            "base": str(self.base),
            "home": str(HOME),
            "manager_url": f"http://127.0.0.1:{self.plain_port}/manager",
            "manager_user": "certgate",
            "manager_password": f"file:{self.base}/manager-pass",
        }

    def write_configuration(self, more: str = "") -> None:
        """With `more` TLS hosts. A Tomcat that runs does not look."""
        self.configuration.write_text(
            SERVER_XML.format(
                plain=self.plain_port,
                tls=self.tls_port,
                store=STORE_WORD.replace("&", "&amp;").replace("<", "&lt;"),
                key=KEY_WORD,
                more=more,
            )
        )

    def start(self) -> None:
        """And wait until it serves."""
        if self._process is not None:
            return
        log = (self.base / "logs/out").open("wb")
        command = [program("java"), *JAVA, f"-Dcatalina.base={self.base}", f"-Dcatalina.home={HOME}"]
        command += [f"-Djava.io.tmpdir={self.base}/temp", "-cp", f"{HOME}/bin/bootstrap.jar:{HOME}/bin/tomcat-juli.jar"]
        with log:
            self._process = subprocess.Popen(
                [*command, "org.apache.catalina.startup.Bootstrap", "start"], cwd=self.base, stdout=log, stderr=log
            )
        try:
            self._await_start()
        except BaseException:
            self.stop()
            raise

    def _await_start(self) -> None:
        """On a busy machine a virtual machine takes its time."""
        deadline = time.monotonic() + 120
        while shown(self.tls_port, "p12.example") is None or self.manage("list", "ops")[0] != 200:
            log = (self.base / "logs/out").read_text()
            assert self.running(), log[-3000:]
            assert "Failed to initialize connector" not in log, log[-3000:]
            assert time.monotonic() < deadline, log[-3000:]
            time.sleep(0.05)

    def stop(self) -> None:
        """By its process id."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def running(self) -> bool:
        """Whether the virtual machine is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def process_id(self) -> int:
        """Of the virtual machine."""
        assert self._process is not None
        return self._process.pid

    @contextmanager
    def started_again(self) -> Iterator[None]:
        """For so long it is started again when it ends, as a service manager does."""
        done = threading.Event()

        def watch() -> None:
            while not done.wait(0.05):
                if not self.running():
                    self.stop()
                    self.start()

        keeper = threading.Thread(target=watch)
        keeper.start()
        try:
            yield
        finally:
            done.set()
            keeper.join()

    def manage(self, command: str, application: str = "manager") -> tuple[int, str]:
        """Ask the text interface, as a person would. Gives status and text; 0 where nobody is there."""
        passwords = urllib.request.HTTPPasswordMgrWithPriorAuth()
        url = f"http://127.0.0.1:{self.plain_port}/{application}/"
        passwords.add_password(None, url, "certgate", MANAGER_WORD, is_authenticated=True)
        opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(passwords))
        try:
            with opener.open(f"{url}text/{command}", timeout=20) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            with error:
                return error.code, ""
        except URLError:
            return 0, ""

    def _first_certificates(self) -> None:
        authority = ThrowawayAuthority()
        for form, words, alias in (
            ("p12", Passphrases(STORE_WORD, STORE_WORD), "webserver"),
            ("jks", Passphrases(STORE_WORD, KEY_WORD), "only"),
        ):
            path = self.base / "tls" / form / f"keys.{form}"
            entry = KeystoreEntry(words, lambda: datetime.now(UTC))
            place = Place(str(path), str(path), form="pkcs12" if form == "p12" else form, alias=alias)
            content = entry.write(None, place, authority.issue(f"{form}.example"))
            if form == "p12":  # and a key of somebody else's
                other = Place(str(path), str(path), form="pkcs12", alias="other")
                content = entry.write(content, other, _self_signed())
            path.write_bytes(content)
            path.chmod(0o640)
        tls = self.base / "tls"
        self._pair(authority.issue("pem.example"), tls / "pem/leaf.pem", tls / "pem/key.pem", tls / "pem/chain.pem")
        both = authority.issue("*.wild.example")
        (tls / "wild/both.pem").write_bytes(both.certificate_pem.encode() + (both.private_key_pem or b""))
        self._pair(authority.issue("two.example"), tls / "two/ec.pem", tls / "two/ec.key")
        key = rsa.generate_private_key(65537, 2048)
        self._pair(authority.issue("two.example", key=key), tls / "two/rsa.pem", tls / "two/rsa.key")

    def _pair(self, material: Material, certificate: Path, key: Path, chain: Path | None = None) -> None:
        certificate.write_text(material.certificate_pem)
        assert material.private_key_pem is not None
        if chain is None:
            key.write_bytes(material.private_key_pem)
        else:
            chain.write_text(material.chain_pem[0])
            loaded = load_pem_private_key(material.private_key_pem, None)
            locked = BestAvailableEncryption(KEY_WORD.encode())
            key.write_bytes(loaded.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked))
        key.chmod(0o640)


@dataclass
class TomcatProduct:
    """One TLS host of a Tomcat, for the conformance suite and the end-to-end tests."""

    tomcat: DisposableTomcat
    host: str = "p12.example"
    paths: Sequence[str] = ("tls/p12/keys.p12",)
    changes: dict[str, Any] = field(default_factory=dict)
    type: str = "tomcat"

    @property
    def settings(self) -> dict[str, Any]:
        """Of the endpoint."""
        return {**self.tomcat.settings, **self.changes}

    @property
    def binding(self) -> str:
        """The host."""
        return f"{self.host}:{self.tomcat.tls_port}"

    @property
    def names(self) -> Sequence[str]:
        """The host."""
        return [self.host]

    def start(self) -> None:
        """Unless it runs."""
        self.tomcat.start()

    def stop(self) -> None:
        """The whole of it."""
        self.tomcat.stop()

    def running(self) -> bool:
        """Whether the virtual machine is there."""
        return self.tomcat.running()

    def break_next(self) -> None:
        """The manager application is stopped, and Tomcat serves what it has loaded."""
        assert self.tomcat.manage("stop?path=/manager", "ops") == (
            200,
            "OK - Stopped application at context path [/manager]\n",
        )

    def mend(self) -> None:
        """It is started again."""
        self.tomcat.manage("start?path=/manager", "ops")

    def files(self) -> Sequence[Path]:
        """Of the host."""
        return [self.tomcat.base / path for path in self.paths]

    @contextmanager
    def share(self, name: str) -> Iterator[str]:
        """Another host with the same element. Tomcat has to be started anew for it."""
        [element] = re.findall(
            rf'(?si)<SSLHostConfig hostName="{re.escape(self.host)}">(.*?)</SSLHostConfig>',
            self.tomcat.configuration.read_text(),
        )
        self.tomcat.stop()
        self.tomcat.write_configuration(f'<SSLHostConfig hostName="{name}">{element}</SSLHostConfig>')
        self.tomcat.start()
        try:
            yield f"{name}:{self.tomcat.tls_port}"
        finally:
            self.tomcat.stop()
            self.tomcat.write_configuration()
            self.tomcat.start()


def _self_signed() -> Material:
    certificate, key = self_signed(["other.example"])
    return Material(certificate.decode(), [], key)
