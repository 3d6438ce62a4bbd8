"""The bench of the audit trail measures what it says."""

from __future__ import annotations

from bench import audit


def test_a_trail_is_filled_and_measured() -> None:
    measured = audit.measure(1_500, lambda _: None)
    figures = {figure.key: figure for figure in measured.figures}
    assert {"page_1", "page_far", "search_nothing", "verify", "export_csv", "export_jsonl"} <= set(figures)
    assert figures["verify"].reads == (1_000, 1_500)
    assert all(figure.few > 0 and figure.many > 0 for figure in measured.figures)
    assert measured.as_json()["audit_verify"]["unit"] == "ms"
