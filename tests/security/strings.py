"""Texts that have broken portals before."""

HOSTILE = {
    "html": "<img src=x onerror=alert(1)>",
    "script end": "</script><script>alert(1)</script>",
    "attribute": '" onmouseover="alert(1)',
    "template": "{{ 7*7 }}{% debug %}",
    "formula": '=HYPERLINK("http://evil.example","x")',
    "sql": "'; DROP TABLE runs_run; --",
    "format": "%s%s%n %(x)s {0.__class__}",
    "line breaks": "a\r\nSet-Cookie: x=1\r\n\r\nb\u2028c\u2029d",
    "emoji": "👩‍👩‍👧‍👦🏳️‍🌈 café ﷽",
    "right to left": "\u202egnirts\u202c שלום مرحبا",
    "zero width": "\u200b\u200d\ufeff",
    "combining": "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A",
    "control": "\x01\x02\x1b[31mred\x7f",
    "long": "x" * 100_000,
    "many lines": "\n" * 5000,
    "path": "../../../../etc/passwd",
    "unc": "\\\\evil\\share",
    "url": "javascript:alert(1)",
}
#: Refused as JSON, before any field is looked at.
NOT_STORABLE = {"nul": "a\x00b", "half a pair": "\ud800"}
