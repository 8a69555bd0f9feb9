"""Symbol names that would be markup, script, mathematics or a format anywhere but here."""

import pandas as pd

HOSTILE = [
    "<script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "' onmouseover='alert(1)",
    "</table></div><h1>forged</h1>",
    "<!-- ",
    "--> <b>",
    "]]>",
    "&lt;script&gt;",
    "&#60;script&#62;",
    "{body}",
    "{0.__class__}",
    "%s%n",
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "<iframe src=//evil.example>",
    "<base href=//evil.example>",
    "<meta http-equiv=refresh content=0>",
    "<style>*{display:none}</style>",
    "<link rel=stylesheet href=//evil.example>",
    "<form action=//evil.example>",
    "<object data=x>",
    "<embed src=x>",
    "<math><mi//xlink:href='data:x'>",
    "<a href=javascript:alert(1)>x</a>",
    "<details open ontoggle=alert(1)>",
    "<input autofocus onfocus=alert(1)>",
    "<video><source onerror=alert(1)>",
    "<body onload=alert(1)>",
    "\u202egnirts",
    "\u2028alert(1)",
    "$x^{2",
    "$\\frac{1}{0}$",
    "a\tb\nc",
    "<ScRiPt >x</sCrIpT>",
    "<svg/onload=alert(1)//",
    "`${alert(1)}`",
    "<%= 7 * 7 %>",
    "{{7*7}}",
]


def edges_between(leaders, followers) -> pd.DataFrame:
    """Return the table of a report in which each leader leads its follower."""
    pairs = {"leader": leaders, "follower": followers, "lag": 1, "effect": 0.1}
    return pd.DataFrame({**pairs, "p_value": 0.01, "q_value": 0.01, "significant": True})
