"""What the page looks like. Green is well, red needs somebody, amber is on its way to one or the other."""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root{color-scheme:light dark;--ground:#f4f6f8;--sheet:#fff;--ink:#17212b;--faint:#6b7885;--line:#e3e8ed;
--good:#12805c;--good-bg:#dff5ec;--bad:#c0322b;--bad-bg:#fde6e4;--warn:#96640a;--warn-bg:#fdf0d5;--link:#1d62b8}
@media(prefers-color-scheme:dark){:root{--ground:#10161c;--sheet:#18212a;--ink:#dfe7ee;--faint:#8b9aa8;--line:#27333e;
--good:#4fd0a2;--good-bg:#133a2e;--bad:#ff8a80;--bad-bg:#46201f;--warn:#f2c063;--warn-bg:#3f3115;--link:#7db7ff}}
*{box-sizing:border-box}
body{margin:0;padding:1.25rem clamp(.75rem,2vw,2rem);background:var(--ground);color:var(--ink);
font:14px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;font-variant-numeric:tabular-nums}
header{display:flex;flex-wrap:wrap;align-items:baseline;gap:.25rem 1rem;margin-bottom:1rem}
h1{font-size:1.35rem;margin:0}h2{font-size:1rem;margin:0}
header p,section>p,footer{color:var(--faint);margin:0}
nav{margin-left:auto;display:flex;gap:.9rem}a{color:var(--link);text-decoration:none}a:hover{text-decoration:underline}
.cards{list-style:none;display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.6rem;margin:0 0 1rem;
padding:0}
.cards li{background:var(--sheet);border:1px solid var(--line);border-left:3px solid var(--line);border-radius:8px;
padding:.6rem .8rem;color:var(--faint)}
.cards b{display:block;font-size:1.3rem;font-weight:650;color:var(--ink);white-space:nowrap}
.cards .good{border-left-color:var(--good)}.cards .warn{border-left-color:var(--warn)}
.cards .bad{border-left-color:var(--bad)}.cards .bad b{color:var(--bad)}
section{background:var(--sheet);border:1px solid var(--line);border-radius:8px;margin-bottom:1rem;padding:.75rem 0 .4rem}
section>h2,section>p{padding:0 .9rem}section>p{margin-top:.1rem}
section>div{overflow-x:auto;margin-top:.4rem}
table{border-collapse:collapse;width:100%}
th,td{padding:.35rem .45rem;text-align:right;white-space:nowrap;border-top:1px solid var(--line)}
th{color:var(--faint);font-weight:500;font-size:.8rem;border-top:0}
th:first-child,td:first-child,.words th,.words td{text-align:left}
th:first-child,td:first-child{padding-left:.9rem;position:sticky;left:0;background:var(--sheet)}
th:last-child,td:last-child{padding-right:.9rem}
.groups th{padding-bottom:0;text-align:center;color:var(--ink)}.groups th:first-child{text-align:left}
.groups th+th,.first{border-left:1px solid var(--line)}
tbody tr:hover td{background:var(--ground)}
td b{font-weight:600}small{display:block;color:var(--faint)}
.pill{display:inline-block;padding:.05rem .55rem;border-radius:99px;font-size:.8rem;font-weight:600}
.pill.good{color:var(--good);background:var(--good-bg)}.pill.bad{color:var(--bad);background:var(--bad-bg)}
.pill.warn{color:var(--warn);background:var(--warn-bg)}
.backends .groups+tr th:nth-child(2),.backends td:nth-child(2){text-align:left}
.none{color:var(--faint)}.fault{color:var(--bad);font-weight:600}small.ok{color:var(--good)}
.bar{display:inline-flex;width:5rem;height:.6rem;border-radius:99px;overflow:hidden;background:var(--line);vertical-align:middle}
.bar i{display:block;min-width:2px}.c1xx,.cother{background:#8b9aa8}.c2xx{background:#22a878}.c3xx{background:#4a90d9}
.c4xx{background:#e5a52d}.c5xx{background:#d9483f}
footer{font-size:.85rem}
""".strip()
