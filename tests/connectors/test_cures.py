"""What a person is told to do about an error, by the words that the connectors really say."""

from __future__ import annotations

import pytest

from connectors.cures import AGAIN, cure
from connectors.errors import Permanent, Retryable


@pytest.mark.parametrize(
    ("message", "start"),
    [
        ("No connector named 'iis' is installed for endpoints; there is: nginx.", "Install the module"),
        ("nginx: setting prefix: String should match pattern (known settings: prefix).", "Edit the settings"),
        ("The keystore /a/b can't be read: it is a JKS file, and the keystore is set as PKCS#12.", "Change the"),
        ("The keystore /a/b can't be read: the passphrase is wrong or the file is damaged.", "Look whether the"),
        ("The keystore /a/b can't be read: it asks for 9 iterations to derive a key; …", "Save the file anew"),
        ("The keystore /a/b can't be read: the file is damaged: it ends too early.", "Put it back from a backup"),
        ("The keystore /a/b is open to others (mode 0755); run chmod 700 on it.", "Run the command that"),
        ("The credential env:PASS is not set in the environment of this process.", "Set the variable"),
        ("The credential file:/etc/p can't be read: No such file or directory.", "Put the secret there"),
        ("Can't run nginx on this host: No such file or directory.", "Install the product there"),
        ("Can't read /etc/nginx/nginx.conf on this host: No such file or directory.", "Correct the path"),
        ("Can't read /etc/nginx/nginx.conf on this host: Permission denied.", "Give the user"),
        (
            "The DNS server ns1 refuses to update zone a.example (REFUSED): allow it there.",
            "Correct what the",
        ),
        ("Order 7 could not be validated (a.example: … connection refused): mend that.", "Make the proof visible"),
        ("The ACME server makes an account only for who agrees to its terms of service: …", "Read the page"),
        ("nginx is not running.", "Start the product"),
        ("web-1 (WinRM, port 5986) refused the sign-in of x by ntlm: …", "Correct the account or its credential"),
        ("web-1 (WinRM, port 5986) gives this account no session: access is denied.", "Correct the account or its"),
        ("web-1 (WinRM, port 5986) has as many sessions of x as it allows …", "Wait until sessions have ended"),
        ("The TLS certificate of web-1 (WinRM, port 5986) can't be verified (…): …", "Set ca_file"),
        (
            "Set-CertgateBinding failed on web-1: A specified logon session does not exist.",
            "Look whether the certificate",
        ),
        ("Import-CertgateCertificate failed on web-1: Access is denied.", "Give the user"),
        ("IIS on web-1 answers otherwise …: bring its functions up to date.", "Copy certgate's scripts"),
        ("nginx refuses its configuration: unknown directive.", "Correct the product's configuration"),
        ("The keystore file /a can't be written: No space left on device.", "Make room"),
        (
            "The host key of web-1:22 has changed: it shows ssh-ed25519 SHA256:…, and known is …",
            "Compare the fingerprint",
        ),
        ("The login of certgate at web-1:22 was refused; offered was: private key.", "Put the public key"),
        ("sudo on web-1 does not let certgate run nginx -t without a password (…): …", "Print the lines"),
        ("The account certgate at web-1:22 runs no commands; it says nothing: …", "Give the account a POSIX shell"),
        ("Can't read /etc/ssl/private/a.key on web-1: certgate has no permission there.", "Give the user"),
        ("Can't write /etc/ssl/private/a.key on web-1: the disk is full.", "Make room"),
        ("Something else.", AGAIN),
        ("The token web refuses the PIN; it is not tried again by itself, …", "Put the right PIN"),
        ("The token web refused this PIN before, and certgate does not offer it again, …", "Put the right PIN"),
        ("The PIN of the token web is locked after too many wrong ones: …", "Do at the token"),
        ("The token web is away: its slot is empty or does not answer.", "Put the token back"),
        ("The PKCS#11 module /a.so can't be loaded: No such file or directory.", "Install the token's library"),
        ("The hook systemctl failed with exit status 5: permission denied.", "Correct the hook"),
        ("The hook /no/such failed: Can't run /no/such on this host: No such file or directory.", "Correct the hook"),
        ("The hook systemctl did not end within 60 s and was stopped.", "Correct the hook"),
        ("Tomcat's manager (http://127.0.0.1:1) refuses the credentials (status 401): …", "Correct manager_user and"),
        (
            "Tomcat's manager (http://127.0.0.1:1) has no text interface (status 404): is the manager application "
            "deployed there, and its user in the role manager-script?",
            "Deploy the manager application",
        ),
        (
            "Can't install at a:1 of Tomcat: the keystore /k has several keys (a, b), and nothing says …",
            "Name the alias",
        ),
        ("/conf/server.xml can't be parsed: mismatched tag: line 1, column 19.", "Mend that file"),
        ("/k is a JKS file, and the endpoint is set as PKCS#12.", "Add the endpoint anew"),
        (
            "The keystore /k would have two different certificates of CN=I, and Java tells issuers by their names "
            "only, so that …",
            "Give that key a keystore file of its own",
        ),
    ],
)
def test_each_error_has_its_cure(message: str, start: str) -> None:
    assert cure(message, Permanent).startswith(start)


def test_what_passes_by_itself_says_where_to_look() -> None:
    assert cure("Something else.", Retryable).startswith("Look whether the host is up")
