"""Who answers challenges, by the settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from connectors.ca.acme.challenges.answers import Answers
from connectors.ca.acme.challenges.contract import Method, Responder
from connectors.ca.acme.challenges.http01 import OwnServer, WebRoot
from connectors.ca.acme.settings import Settings
from connectors.folders import PrivateFolder
from connectors.registry import Surroundings


def responders(settings: Settings, _surroundings: Surroundings, folder: Path) -> Mapping[Method, Responder]:
    """What answers for each method that is to be used, the preferred one first; answers of our own are in `folder`."""
    own = PrivateFolder(folder, "folder of answers")
    found: dict[Method, Responder] = {}
    if settings.http01_listen is not None:
        found[Method.HTTP_01] = OwnServer(settings.http01_listen, Answers(own, Method.HTTP_01))
    elif settings.http01_web_root is not None:
        found[Method.HTTP_01] = WebRoot(settings.http01_web_root)
    return {method: found[method] for method in settings.methods}
