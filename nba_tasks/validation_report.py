"""The report of a validation: a page of our own in front, and Great Expectations' pages behind it, one a suite.

Every page stands alone: a closed network can open it, and nobody outside learns that it was opened. Great Expectations'
own view loads its styles and scripts from elsewhere, so its sections are put into a page of ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jinja2

if TYPE_CHECKING:
    from nba_tasks.validate import ValidationResult

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ title }}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<style>
  :root { color-scheme: light dark }
  body {
    font: 15px/1.45 sans-serif; margin: 1em; max-width: 70em; overflow-wrap: anywhere;
    color: light-dark(#222, #eceef2); background: light-dark(#fff, #16181d);
  }
  a { color: light-dark(#0b5cad, #7cb7f5) }
  table { border-collapse: collapse; margin: .5em 0 1.5em }
  td, th { padding: .3em .5em .3em 0; text-align: left; vertical-align: top }
  td, th { border-bottom: 1px solid light-dark(#ddd, #3a404b) }
  .counts td + td, .counts th + th { text-align: right }
  h1 { font-size: 1.5em } h4, h5, h6 { font-size: 1.1em; margin: 1.2em 0 .3em }
  .text-success::before { content: "✓"; color: light-dark(#176f2c, #6fd3a8); font-weight: bold }
  .text-danger::before { content: "✗"; color: light-dark(#b3261e, #ff9b91); font-weight: bold }
  .text-warning::before { content: "!"; color: light-dark(#8a5a00, #f0c265); font-weight: bold }
</style></head><body><main>
{% block content %}{% endblock %}
</main></body></html>
"""

INDEX = """{% extends "page" %}{% block content %}<h1>{{ title }}: {{ "passed" if result.passed else "refused" }}</h1>
<ul>
{% for reason in result.critical %}<li><i class="text-danger"></i> {{ reason }}</li>
{% endfor %}
{% for reason in result.warnings %}<li><i class="text-warning"></i> {{ reason }}</li>
{% endfor %}
</ul>
<table class="counts"><tr><th>relation</th><th>rows</th><th>to quarantine</th></tr>
{% for relation, rows in result.rows.items() %}
<tr><td><a href="{{ relation }}.html">{{ relation }}</a></td><td>{{ "{:,}".format(rows) }}</td>
<td>{{ "{:,}".format(result.quarantined[relation]) }}</td></tr>
{% endfor %}
</table>
<p><a href="night.html">the night as a whole</a></p>{% endblock %}
"""

SUITE = """{% extends "page" %}{% block content %}<p><a href="index.html">all relations</a></p>
<h1>{{ title }}</h1>
{% for section in sections %}{{ section | safe }}{% endfor %}{% endblock %}
"""

TEMPLATES = jinja2.Environment(
    loader=jinja2.DictLoader({"page": PAGE, "index": INDEX, "suite": SUITE}),
    undefined=jinja2.StrictUndefined,
    autoescape=True,
    trim_blocks=True,
)


def index_page(title: str, result: ValidationResult) -> str:
    """The first page: the verdict, its reasons, and the rows by relation."""
    return TEMPLATES.get_template("index").render(title=title, result=result)


def suite_page(results: Any, run_id: str) -> str:
    """What Great Expectations found for one suite, in its own words and with its own sections.

    Parameters
    ----------
    results : ExpectationSuiteValidationResult
        Holds counts, but no values of rows.
    run_id : str
        Stands at the end of the page.
    """
    from great_expectations.core.run_identifier import RunIdentifier
    from great_expectations.render.renderer.page_renderer import ValidationResultsPageRenderer
    from great_expectations.render.view.view import DefaultJinjaSectionView

    results.meta.update(run_id=RunIdentifier(run_name=run_id), batch_spec={})  # its query is our own affair
    renderer: Any = ValidationResultsPageRenderer(run_info_at_end=True)
    view: Any = DefaultJinjaSectionView()
    document: Mapping[str, Any] = renderer.render(results).to_json_dict()
    sections = [
        # Its template expects to be called from a loop over the sections.
        _alone(str(view.render({"section": section, "loop": {"index": i}, "section_loop": {"index": i}})))
        for i, section in enumerate(document["sections"], 1)
    ]
    return TEMPLATES.get_template("suite").render(title=f"Validation of {results.suite_name}", sections=sections)


def _alone(section: str) -> str:
    """A section without its scripts, and without links into a site of Great Expectations that we do not keep."""
    section = re.sub(r"<script\b.*?</script>", "", section, flags=re.DOTALL)
    section = section.replace("Data asset: None<br>", "")
    return re.sub(r'<a href="\.\./[^"]*"[^>]*>(.*?)</a>', r"\1", section, flags=re.DOTALL)
