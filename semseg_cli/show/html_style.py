"""The style of report.html: light or dark as the reader's system says, light on paper."""

CSS = """
:root { color-scheme: light dark; --ink: #1d2125; --soft: #5c6670; --line: #d9dee3;
  --page: #ffffff; --card: #f5f7f9; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ec; --soft: #a3adb7; --line: #3a424a; --page: #15191d; --card: #1e2429; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 1200px; margin: 0 auto; padding: 24px 20px 60px; }
h1 { margin: 0; font-size: 26px; overflow-wrap: anywhere; }
h2 { margin: 36px 0 10px; font-size: 18px; }
header p { margin: 4px 0 20px; color: var(--soft); }
.tiles { display: grid; gap: 10px; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); }
.tile { padding: 10px 14px; border: 1px solid var(--line); border-radius: 8px;
  background: var(--card); }
.tile span { display: block; color: var(--soft); font-size: 13px; }
.tile strong { font-size: 24px; font-variant-numeric: tabular-nums; }
.notes { margin: 12px 0 0; padding-left: 18px; color: var(--soft); font-size: 14px; }
figure { margin: 0 0 18px; padding: 10px; border: 1px solid var(--line); border-radius: 8px;
  background: #ffffff; break-inside: avoid; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
figcaption { margin-top: 6px; color: #5c6670; font-size: 13px; text-align: center;
  overflow-wrap: anywhere; }
.scroll { max-height: 640px; overflow: auto; border: 1px solid var(--line); border-radius: 8px; }
table { width: 100%; border-collapse: collapse; font-size: 14px;
  font-variant-numeric: tabular-nums; }
th, td { padding: 4px 12px; border-bottom: 1px solid var(--line); text-align: right; }
thead th { position: sticky; top: 0; background: var(--card); font-weight: 600; }
th:first-child, .text { text-align: left; }
td small { display: inline-block; min-width: 104px; color: var(--soft); }
.pairs th { width: 220px; color: var(--soft); font-weight: 400; vertical-align: top; }
.pairs td { text-align: left; overflow-wrap: anywhere; }
code { padding: 1px 5px; border-radius: 4px; background: var(--card); }
@media print {
  :root { color-scheme: light; --ink: #000000; --soft: #444444; --line: #cccccc;
    --page: #ffffff; --card: #ffffff; }
  main { max-width: none; padding: 0; }
  .scroll { max-height: none; overflow: visible; border: 0; }
  table { font-size: 11px; }
  th, td { padding: 2px 6px; }
  td small { min-width: 0; white-space: nowrap; }
  thead { display: table-header-group; }
  tr { break-inside: avoid; }
  h2 { break-after: avoid; }
}
"""
