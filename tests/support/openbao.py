"""A real OpenBao (``bao server -dev`` with TLS) for tests: PKI with root and intermediate, AppRole, KV 1 and 2."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.programs import program
from worker.processes import free_port

ROOT_TOKEN = "root-of-the-test"
# What certgate needs, as docs/ca-vault.md tells it.
POLICY = """
path "+/sign/*"   { capabilities = ["update"] }
path "+/issuer/+/sign/*" { capabilities = ["update"] }
path "+/certs/*"  { capabilities = ["list"] }
path "+/cert/*"   { capabilities = ["read"] }
path "+/revoke"   { capabilities = ["update"] }
path "+/roles/*"  { capabilities = ["read", "list"] }
"""
KV_POLICY = """
path "secret/data/certgate/*" { capabilities = ["read"] }
path "old/certgate/*"         { capabilities = ["read"] }
"""


@dataclass
class OpenBao:
    """A running server. `ask` speaks to it as its owner does; certgate's own client is what is tested. At `plain_port`
    it answers without TLS, too."""

    folder: Path
    port: int
    process: subprocess.Popen[str]
    plain_port: int = 0
    unseal_key: str = ""
    said: list[str] = field(default_factory=list)

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def ca_file(self) -> Path:
        """The root of its TLS certificate."""
        return self.folder / "vault-ca.pem"

    def ask(self, method: str, path: str, body: Any = None, *, token: str = ROOT_TOKEN) -> dict[str, Any]:
        """One request; raises `AssertionError` for a refusal."""
        request = urllib.request.Request(
            f"{self.address}/v1/{path}",
            method=method,
            data=json.dumps(body).encode() if body is not None else None,
            headers={"x-vault-token": token},
        )
        try:
            with urllib.request.urlopen(request, context=ssl.create_default_context(cafile=self.ca_file)) as answer:
                content = answer.read()
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.code} {error.read()[:500]!r}") from None
        found: dict[str, Any] = json.loads(content) if content else {}
        return found

    def serials(self, mount: str = "pki_int") -> list[str]:
        """What a mount has issued and knows, CA certificates included."""
        try:
            return list(self.ask("LIST", f"{mount}/certs")["data"]["keys"])
        except AssertionError:
            return []

    def token(self, *policies: str, **options: Any) -> str:
        """A new token."""
        made = self.ask("POST", "auth/token/create-orphan", {"policies": list(policies), **options})
        return str(made["auth"]["client_token"])

    def secret_id(self, role: str = "certgate") -> str:
        """A new secret id of an AppRole."""
        return str(self.ask("POST", f"auth/approle/role/{role}/secret-id", {})["data"]["secret_id"])

    def role_id(self, role: str = "certgate") -> str:
        """The id of an AppRole."""
        return str(self.ask("GET", f"auth/approle/role/{role}/role-id")["data"]["role_id"])

    def seal(self) -> None:
        """Seal it."""
        self.ask("POST", "sys/seal", {})

    def unseal(self) -> None:
        """Unseal it, and wait until it is there again."""
        self.ask("POST", "sys/unseal", {"key": self.unseal_key})
        while True:
            try:
                self.ask("GET", "sys/mounts")
                return
            except AssertionError:
                time.sleep(0.02)

    def prepare(self) -> None:
        """Engines, an intermediate below a root, roles, policies, an AppRole."""
        self.ask("POST", "sys/mounts/pki", {"type": "pki", "config": {"max_lease_ttl": "87600h"}})
        self.ask("POST", "sys/mounts/old", {"type": "kv", "options": {"version": "1"}})
        root = {"common_name": "Test Root", "ttl": "87600h", "key_type": "ec", "key_bits": 256}
        self.ask("POST", "pki/root/generate/internal", root)
        self.intermediate("pki_int")
        self.ask("POST", "sys/policies/acl/certgate", {"policy": POLICY})
        self.ask("POST", "sys/policies/acl/certgate-kv", {"policy": KV_POLICY})
        self.ask("POST", "sys/auth/approle", {"type": "approle"})
        policies = {"token_policies": ["certgate", "certgate-kv"], "token_ttl": "1h", "token_max_ttl": "4h"}
        self.ask("POST", "auth/approle/role/certgate", policies)

    def intermediate(self, mount: str) -> None:
        """Another PKI mount below the root, with the roles ``server``, ``any``, ``short`` and ``forgetful``."""
        self.ask("POST", f"sys/mounts/{mount}", {"type": "pki", "config": {"max_lease_ttl": "43800h"}})
        asked = {"common_name": f"Test Intermediate {mount}", "key_type": "ec", "key_bits": 256}
        csr = self.ask("POST", f"{mount}/intermediate/generate/internal", asked)["data"]["csr"]
        signed = self.ask("POST", "pki/root/sign-intermediate", {"csr": csr, "ttl": "43800h"})["data"]
        self.ask("POST", f"{mount}/intermediate/set-signed", {"certificate": "\n".join(signed["ca_chain"])})
        role = {
            "allowed_domains": ["example.com"],
            "allow_subdomains": True,
            "allow_bare_domains": True,
            "max_ttl": "1128h",
            "key_type": "any",
            "key_usage": ["DigitalSignature"],
        }
        self.ask("POST", f"{mount}/roles/server", role)
        self.ask("POST", f"{mount}/roles/any", {**role, "allow_any_name": True})
        self.ask("POST", f"{mount}/roles/short", {**role, "max_ttl": "144h"})
        self.ask("POST", f"{mount}/roles/forgetful", {**role, "no_store": True})


@contextmanager
def running(folder: Path) -> Iterator[OpenBao]:
    """Start a server, prepared, and end it."""
    port, plain_port = free_port(), free_port()
    (folder / "plain.hcl").write_text(
        f'listener "tcp" {{\n  address = "127.0.0.1:{plain_port}"\n  tls_disable = true\n}}\n'
    )
    process = subprocess.Popen(
        [
            program("bao"),
            "server",
            "-dev",
            "-dev-tls",
            f"-dev-tls-cert-dir={folder}",
            f"-dev-listen-address=127.0.0.1:{port}",
            f"-dev-root-token-id={ROOT_TOKEN}",
            "-dev-no-store-token",
            f"-config={folder / 'plain.hcl'}",
            "-log-level=error",
        ],
        cwd=folder,
        env={"HOME": str(folder), "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    server = OpenBao(folder, port, process, plain_port)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            server.said.append(line)
            if found := re.match(r"Unseal Key: (\S+)", line):
                server.unseal_key = found[1]
            if line.startswith("Development mode"):
                break
        assert server.unseal_key, f"bao did not start: {''.join(server.said)[-2000:]}"
        # It must never wait for somebody to read what it says.
        reader = threading.Thread(target=server.said.extend, args=(process.stdout,), daemon=True)
        reader.start()
        server.prepare()
        yield server
    finally:
        process.terminate()
        process.wait(timeout=30)
        if process.poll() is not None and "reader" in locals():
            reader.join(timeout=30)
        process.stdout.close()
