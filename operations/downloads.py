"""Files for a gateway's host: a service unit, a container file, a sample of its `gateway.toml`. None holds a secret."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum

from model.tables import Gateway
from operations import lookup
from operations.context import Context
from operations.lookup import identity


class Kind(StrEnum):
    """What can be had for a gateway's host."""

    SYSTEMD = "systemd"
    CONTAINER = "container"
    GATEWAY_TOML = "gateway-toml"


@dataclass(frozen=True)
class Download:
    """A file by its name, as text."""

    file_name: str
    text: str


def of_gateway(
    context: Context, which: str | int, kind: Kind, *, address: str = "", namespace: str = "default"
) -> Download:
    """One of the files for this gateway. `address` and `namespace` are where it finds Temporal. Raises `NotFound`."""
    with context.database.read() as session:
        gateway = lookup.gateway(session, context.actor, which)
    match kind:
        case Kind.SYSTEMD:
            return Download(f"certgate-gateway-{_slug(gateway)}.service", _unit(gateway))
        case Kind.CONTAINER:
            return Download("compose.yml", _compose(gateway))
        case Kind.GATEWAY_TOML:
            return Download("gateway.toml", _toml(gateway, address, namespace))


def _slug(gateway: Gateway) -> str:
    """The gateway's name as file and service names have it; its number where nothing of the name is left."""
    plain = re.sub(r"[^a-z0-9]+", "-", gateway.name.casefold()).strip("-")[:40].strip("-")
    return plain or str(identity(gateway))


def _unit(gateway: Gateway) -> str:
    home = f"/var/lib/certgate-gateway-{_slug(gateway)}"
    # % begins a specifier in a unit (systemd.unit(5)), and no name that certgate allows has one.
    return f"""\
# The certgate gateway {gateway.name} (ID {identity(gateway)}) as a systemd service.
#
#   useradd --system --home-dir {home} --shell /usr/sbin/nologin certgate-gateway
#   install -d -m 0700 -o certgate-gateway -g certgate-gateway {home}
#   runuser -u certgate-gateway -- /opt/certgate/bin/certgate gateway join --gateway-home {home} --token-file TOKEN
#   install -m 0644 certgate-gateway-{_slug(gateway)}.service /etc/systemd/system/
#   systemctl daemon-reload && systemctl enable --now certgate-gateway-{_slug(gateway)}

[Unit]
Description=certgate gateway {gateway.name}
After=network-online.target
Wants=network-online.target

[Service]
User=certgate-gateway
Group=certgate-gateway
# Where certgate is installed on this host.
ExecStart=/opt/certgate/bin/certgate gateway run --gateway-home {home}
Restart=always
RestartSec=5
# The manager has refused this host (it was restored elsewhere, or deleted): it would only be told so again.
RestartPreventExitStatus=3
# What has begun comes to its end, or is given back, within a minute.
KillSignal=SIGTERM
TimeoutStopSec=75

# It writes into its home. Give it the files of the endpoints on this host, too, one line for each folder, such as
#   ReadWritePaths=/etc/nginx
ReadWritePaths={home}
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
UMask=0077
LimitCORE=0
NoNewPrivileges=yes
CapabilityBoundingSet=
RestrictSUIDSGID=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
LockPersonality=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
# Left out on purpose: PrivateNetwork (it needs its one way out), ProtectProc and PrivateUsers (it signals servers on
# this host, such as nginx, to reload them; where these run as another user, let it run a reload_command by sudo, and
# then without NoNewPrivileges and CapabilityBoundingSet).

[Install]
WantedBy=multi-user.target
"""


def _compose(gateway: Gateway) -> str:
    name = f"certgate-gateway-{_slug(gateway)}"
    return f"""\
# The certgate gateway {gateway.name} (ID {identity(gateway)}) as a container. The image is built from certgate's own
# Dockerfile:  docker build --tag certgate:0.1.0 .
#
# Put the enrollment token into the file `token` beside this one (chmod 400, owner 10001), join once, then run:
#   docker compose run --rm --volume ./token:/run/token:ro gateway gateway join \\
#     --gateway-home /home/certgate/gateway --token-file /run/token
#   rm token
#   docker compose up --detach

name: {name}

services:
  gateway:
    image: certgate:0.1.0
    command: [gateway, run, --gateway-home, /home/certgate/gateway]
    user: "10001:10001"
    init: true
    read_only: true
    cap_drop: [ALL]
    security_opt: ["no-new-privileges:true"]
    # The manager's refusal (exit status 3) ends it for good; a crash or a restart of the host does not.
    restart: on-failure:10
    tmpfs: [/tmp, "/home/certgate/run:uid=10001,gid=10001,mode=0700"]
    volumes:
      - gateway:/home/certgate/gateway   # its private keys: back it up
      # The files of endpoints that run beside it, such as
      # - /etc/nginx:/etc/nginx
    # What has begun comes to its end, or is given back, within a minute.
    stop_grace_period: 75s
    healthcheck:
      test: [CMD, python, -m, worker.readiness, /home/certgate/gateway, gateway]
      interval: 10s
      timeout: 5s
      start_period: 60s
      retries: 3

volumes:
  gateway:
"""


def _toml(gateway: Gateway, address: str, namespace: str) -> str:
    return f"""\
# A sample of what `certgate gateway join` writes into the gateway's home, with everything that may be changed there.
# The first five lines are the join's own: who changes them makes the gateway somebody else, and it is refused.

id = {identity(gateway)}
name = {json.dumps(gateway.name, ensure_ascii=False)}
channel = {gateway.channel}                # grows with each restore
installation = "…"         # the certgate that it belongs to, and
manager_key = "…"          # its manager's public key: both come out of the token

[temporal]
# TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE and the Temporal SDK's other variables (TLS, API key) count before these.
address = {json.dumps(address or "temporal.example.com:7233")}
namespace = {json.dumps(namespace)}
# A file and a profile of the SDK's own environment configuration, for TLS and API keys:
# config_file = "/etc/certgate/temporal.toml"
# profile = "default"
# Where the only way out is an HTTP proxy (CONNECT); its user:password is a reference, never the password itself:
# proxy = "http://proxy.example.com:3128"
# proxy_credential = "file:/etc/certgate/proxy"
"""
