"""The sign-in page: plain HTML without a script, so that it works before anything else does."""

from __future__ import annotations

import html
from dataclasses import dataclass, replace
from pathlib import Path
from string import Template

from starlette.responses import HTMLResponse

from dashboard.web.headers import PLAIN_POLICY

ASSETS = Path(__file__).parent / "assets"
_TEMPLATE = Template((ASSETS / "sign_in.html").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class SignInPage:
    """What the page shows. `refused` and `told` are sentences; `provider` is the label and the address of the button
    for another way in. All of it may hold what people typed."""

    form: str
    next: str
    login: str = ""
    refused: str = ""
    told: str = ""
    provider: tuple[str, str] | None = None

    def with_provider(self, label: str, address: str) -> SignInPage:
        """The page with the button."""
        return replace(self, provider=(label, address))

    def response(self, status: int = 200) -> HTMLResponse:
        """The page, escaped."""
        notice, button = "", ""
        if self.refused:
            notice = f'<p class="notice error" role="alert">{html.escape(self.refused)}</p>'
        elif self.told:
            notice = f'<p class="notice info" role="status">{html.escape(self.told)}</p>'
        if self.provider is not None:
            label, address = (html.escape(one) for one in self.provider)
            button = (
                f'<a class="provider" href="{address}">Sign in with {label}</a><p class="or">or with a password</p>'
            )
        focus = " autofocus"
        text = _TEMPLATE.substitute(
            form=html.escape(self.form),
            next=html.escape(self.next),
            login=html.escape(self.login),
            notice=notice,
            provider=button,
            focus_login="" if self.login else focus,
            focus_password=focus if self.login else "",
        )
        headers = {"content-security-policy": PLAIN_POLICY, "cache-control": "no-store"}
        return HTMLResponse(text, status, headers)
