"""One page of HTML on a run or a sweep, which needs nothing else: no network, no scripts.

`write_report` collects what is known (`contents`), says it in words (`words`), draws it
(`pictures`) and fills the template.
"""

from __future__ import annotations

from harmonypy_lite.page.report import check_report, write_report

__all__ = ["check_report", "write_report"]
