"""The report's first page: what the CRM says stands there as text."""

from __future__ import annotations

from nba_tasks.validate import ValidationResult
from nba_tasks.validation_report import index_page


def test_reasons_are_text_whatever_an_action_is_called() -> None:
    reason = "an action's channel may not change: <script>alert(1)</script>"
    result = ValidationResult(1, (reason,), ("odd & <b>",), {"events": 1234}, {"events": 5}, {}, None)
    page = index_page("shop, 2024-03-01", result)
    assert "shop, 2024-03-01: refused" in page
    assert "&lt;script&gt;alert(1)" in page
    assert "odd &amp; &lt;b&gt;" in page
    assert "<script" not in page
    assert ">1,234</td>" in page
