"""What to do about an error of a connector: one sentence beside the error's own.

An error's sentence says what happened and where; this one says what a person does next. It is found by the words that
our own connectors and the system use, else by the kind of the error, in this one place, so that the dashboard, the
command line and the records all say the same.
"""

from __future__ import annotations

import re

from connectors.errors import ConnectorError, Retryable

AGAIN = "Mend what the sentence names, then ask again."
_UNREACHED = (
    "Look whether the host is up, whether its address and port are right, and whether a firewall lets the "
    "gateway through; then ask again."
)

# The first that fits counts: particular ones before general ones.
_CURES: tuple[tuple[str, str], ...] = (
    (r"no connector named", "Install the module on the gateway's host, or choose a type that is there."),
    (
        r"refused the sign-in|gives this account no session",
        "Correct the account or its credential, and give it the right to use WinRM there: Remote Management Users, or "
        "the JEA configuration.",
    ),
    (
        r"specified logon session does not exist|has no private key on",
        "Look whether the certificate in the machine's store has its private key, and the account the right to it.",
    ),
    (r"bring its functions up to date", "Copy certgate's scripts into the JEA module on the host again."),
    (r"as many sessions of", "Wait until sessions have ended there, or raise the limit (MaxShellsPerUser)."),
    (r"TLS certificate of .* can't be verified", "Set ca_file to the CA that issued the host's certificate for WinRM."),
    (
        r"tomcat's manager .* refuses the credentials",
        "Correct manager_user and manager_password: the user needs the role manager-script, or manager-jmx for the JMX "
        "proxy.",
    ),
    (
        r"is the manager application deployed",
        "Deploy the manager application there (Debian: tomcat10-admin), correct manager_url, or set reload to hook.",
    ),
    (
        r"has several keys|has no key under .* \(there is",
        "Name the alias of the key that is used: in the endpoint's settings, or as certificateKeyAlias in server.xml.",
    ),
    (r"server\.xml can't be parsed|has a document type or entities", "Mend that file on its host, then ask again."),
    (
        r"file, and the endpoint is set as",
        "Add the endpoint anew with the type that the file is, or name another file.",
    ),
    (r"issuers by their names only", "Give that key a keystore file of its own, or make the file a JKS with keytool."),
    (r"setting [\w.]+:", "Edit the settings: the sentence names the field and what it takes."),
    (r"it is an? [\w#]+ file", "Change the keystore's type to what the file is, or name another file."),
    (
        r"asks for .*iterations|save it anew|certgate does not read",
        "Save the file anew with today's protection: keytool -importkeystore into a new PKCS#12 file does it.",
    ),
    (
        r"the PIN of the token .* (is locked|has expired)|has no user PIN|one more wrong PIN",
        "Do at the token what the sentence says, with the token's own tool, then ask again.",
    ),
    (
        r"refuses the PIN|refused this PIN",
        "Put the right PIN where its reference points to on the gateway's host; after a change in the token itself "
        "start the gateway again.",
    ),
    (
        r"the token .* is away",
        "Put the token back into its slot, or mend the way to it; the step is tried again by itself.",
    ),
    (r"PKCS#11 module .* can't be loaded", "Install the token's library on the gateway's host, or correct its path."),
    (
        r"^the hook .*(failed|did not end within)",
        "Correct the hook, or what it complains about, then retry; everything was put back.",
    ),
    (
        r"passphrase .*(wrong|damaged)|another passphrase|is encrypted, and",
        "Look whether the passphrase reference names the right passphrase on the gateway's host; if it does, put "
        "the file back from a backup.",
    ),
    (
        r"TSIG|zone \S+ \((REFUSED|NOTAUTH|NOTIMP|FORMERR)|has no zone for|aliases \(CNAME\)",
        "Correct what the sentence names on the DNS server, or the secret in the file, then retry.",
    ),
    (
        r"could not be validated|wants proof of|can only be proved by|another program listens at",
        "Make the proof visible to the CA: the name in the DNS, port and firewall, the web server, or the method in "
        "the CA's settings; then retry.",
    ),
    (r"agrees to its terms of service", "Read the page that it names, then set terms_agreed in the CA's settings."),
    (r"credential .* is not set", "Set the variable in the environment of the gateway's process, and start it again."),
    (r"credential .*(can't be read|is empty)", "Put the secret there on the gateway's host, readable by the gateway."),
    (r"run chmod", "Run the command that the sentence names, on the gateway's host, then ask again."),
    (r"belongs to user", "Give it to the user that the gateway runs as (chown), or choose another place."),
    (r"damaged|cut off|ends too early|is empty \(0", "Put it back from a backup, or move it away and ask again."),
    (r"is larger than", "Name another file: this one is too large to be what it should be."),
    (r"no space left|disk quota|disk is full", "Make room on the disk that the sentence names, then ask again."),
    (r"did not end within|took too long", "Look at the host: it is too busy, or the command waits for something."),
    (
        r"does not let \S+ run .* without a password",
        "Print the lines with `certgate endpoint sudoers`, and install them under /etc/sudoers.d on that host.",
    ),
    (
        r"host key of .*(is not known|has changed|revoked)",
        "Compare the fingerprint with the one on the host itself, then correct host_keys or known_hosts.",
    ),
    (
        r"login of .* was refused",
        "Put the public key into the account's authorized_keys, or have a certificate made that has not ended.",
    ),
    (r"runs no commands", "Give the account a POSIX shell, and take a forced command away."),
    (
        r"permission denied|not permitted|access is denied|has no permission",
        "Give the user that the gateway acts as there the right to it, or set a command with more rights (sudo -n).",
    ),
    (
        r"give the user a role",
        "Give that user the rights that docs/endpoints-f5.md lists, then ask again.",
    ),
    (
        r"active login tokens",
        "Wait until tokens of that user end (20 minutes), or end some; then ask again.",
    ),
    (r"are pending for the device group", "Synchronize the group in the direction that is right, then retry."),
    (r"is not running", "Start the product on its host, then ask again."),
    (
        r"refuses its configuration|configuration can't be read",
        "Correct the product's configuration as its own words say; its own check tells when it is sound.",
    ),
    (
        r"can't run .*(no such file|does not exist)|no such command",
        "Install the product there, or set its command in full.",
    ),
    (
        r"no such file|does not exist|is not there|not a regular file|not a folder",
        "Correct the path in the settings, or put there what it names.",
    ),
    (r"authentication|host key|login", "Correct the credential or the known host key of the connection."),
    (r"timed out|refused|unreachable|resolve|did not answer|could not be reached|connection", _UNREACHED),
)


def cure(message: str, kind: type[ConnectorError] | None = None) -> str:
    """One sentence of what to do about an error that said `message`."""
    for pattern, sentence in _CURES:
        if re.search(pattern, message, re.IGNORECASE | re.DOTALL):
            return sentence
    return _UNREACHED if kind is not None and issubclass(kind, Retryable) else AGAIN
