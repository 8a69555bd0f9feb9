"""Symbol names that would be markup, script, mathematics or a format anywhere but here."""

import pandas as pd

HOSTILE = [
    # scripts
    *("<script>alert(1)</script>", "</title><script>alert(1)</script>", "<ScRiPt >x</sCrIpT>"),
    *("javascript:alert(1)", "data:text/html,<script>alert(1)</script>"),
    # events
    *("<img src=x onerror=alert(1)>", '"><svg onload=alert(1)>', "<svg/onload=alert(1)//"),
    *("' onmouseover='alert(1)", "<details open ontoggle=alert(1)>", "<body onload=alert(1)>"),
    *("<input autofocus onfocus=alert(1)>", "<video><source onerror=alert(1)>"),
    # other pages
    *("<iframe src=//evil.example>", "<base href=//evil.example>", "<form action=//evil.example>"),
    *("<link rel=stylesheet href=//evil.example>", "<meta http-equiv=refresh content=0>"),
    *("<object data=x>", "<embed src=x>", "<a href=javascript:alert(1)>x</a>"),
    "<math><mi//xlink:href='data:x'>",
    # structure
    *("</table></div><h1>forged</h1>", "<!-- ", "--> <b>", "]]>", "<style>*{display:none}</style>"),
    # escapes, templates and formats
    *("&lt;script&gt;", "&#60;script&#62;", "{body}", "{0.__class__}", "%s%n", "{{7*7}}"),
    *("<%= 7 * 7 %>", "`${alert(1)}`", "$x^{2", "$\\frac{1}{0}$"),
    # invisible characters
    *("\u202egnirts", "\u2028alert(1)", "a\tb\nc"),
]


def edges_between(leaders, followers) -> pd.DataFrame:
    """Return the table of a report in which each leader leads its follower."""
    pairs = {"leader": leaders, "follower": followers, "lag": 1, "effect": 0.1}
    return pd.DataFrame({**pairs, "p_value": 0.01, "q_value": 0.01, "significant": True})
