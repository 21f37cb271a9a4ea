#include "apps/page.h"

#include <fmt/format.h>

#include <cmath>

#include "apps/svg.h"

namespace graft {
namespace {

constexpr const char* kPageStyle = R"css(
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5a6675; --line: #dfe4ea; --page: #f6f7f9; --card: #fff;
  --focus: #1f77b4; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --soft: #9aa7b6; --line: #323b47; --page: #14181d;
  --card: #1d232b; --focus: #62aee8; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 24px 20px 60px; max-width: 1180px; background: var(--page); color: var(--ink);
  font: 15px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 22px; margin: 0 0 2px; } h2 { font-size: 16px; margin: 0 0 8px; }
p { margin: 6px 0; } .soft { color: var(--soft); font-size: 13.5px; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 16px 18px;
  margin-top: 16px; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(132px, 1fr)); gap: 10px; margin-top: 16px; }
.figures div { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 9px 12px;
  font-size: 13px; color: var(--soft); }
.figures b { display: block; font-size: 20px; color: var(--ink); font-variant-numeric: tabular-nums; }
.key { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 10px 0 0; padding: 0; list-style: none; font-size: 14px; }
.key i { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 6px; }
svg { display: block; width: 100%; height: auto; } svg text { fill: var(--soft); }
svg .grid { stroke: var(--line); fill: none; }
svg .dot { fill-opacity: .55; stroke-width: 1; cursor: default; } svg .dot:hover, svg .dot.lit { fill-opacity: 1;
  stroke: var(--ink); stroke-width: 2; }
.narrow { display: none; }
.scroll { overflow-x: auto; margin: 0 -18px; padding: 0 18px; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 4px 8px; white-space: nowrap; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--card); }
thead th { color: var(--soft); font-weight: 600; border-bottom-width: 2px; }
th button { all: unset; cursor: pointer; } th button:focus-visible { outline: 2px solid var(--focus); }
th[aria-sort=descending] button::after { content: " \25BE"; } th[aria-sort=ascending] button::after { content: " \25B4"; }
tbody tr:hover td { background: var(--page); }
tfoot td { font-weight: 600; border-bottom: 0; }
#tip { position: fixed; z-index: 2; pointer-events: none; white-space: pre; background: var(--ink); color: var(--page);
  font-size: 13px; padding: 7px 10px; border-radius: 6px; max-width: 94vw; overflow: hidden; }
@media (max-width: 640px) { body { padding: 14px 10px 40px; } section { padding: 12px; }
  .scroll { margin: 0 -12px; padding: 0 12px; } .wide { display: none; } .narrow { display: block; }
  .figures { grid-template-columns: repeat(2, 1fr); } .figures b { font-size: 18px; } }
@media print { :root { color-scheme: light; --ink: #000; --soft: #444; --line: #bbb; --page: #fff; --card: #fff; }
  body { max-width: none; padding: 0; font-size: 12px; } * { print-color-adjust: exact; }
  section { border: 0; padding: 0; margin-top: 18px; } .scroll { overflow: visible; margin: 0; padding: 0; }
  h2, h3 { break-after: avoid; } svg, tr, figure, .figures div { break-inside: avoid; }
  table { font-size: 11px; } #tip { display: none; } }
)css";

// Sorts tables by a click on a heading, shows a dot's figures where the pointer is, and opens what is folded for paper.
constexpr const char* kPageScript = R"js(
for (const table of document.querySelectorAll('table.sortable')) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((th, column) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.append(...th.childNodes);
    th.replaceChildren(button);
    button.addEventListener('click', () => {
      const down = th.getAttribute('aria-sort') !== 'descending' && column > 0 || th.getAttribute('aria-sort') === 'ascending';
      for (const other of table.tHead.rows[0].cells) other.removeAttribute('aria-sort');
      th.setAttribute('aria-sort', down ? 'descending' : 'ascending');
      const key = row => row.cells[column].dataset.v;
      const order = (a, b) => key(a) === undefined ? a.cells[column].textContent.localeCompare(b.cells[column].textContent) : Number(key(a)) - Number(key(b));
      [...body.rows].sort((a, b) => (down ? -1 : 1) * order(a, b)).forEach(row => body.append(row));
    });
  });
}
const tip = document.createElement('div');
tip.id = 'tip';
tip.hidden = true;
document.body.append(tip);
for (const dot of document.querySelectorAll('.dot')) {
  const words = dot.querySelector('title').textContent;
  dot.querySelector('title').remove();
  dot.setAttribute('aria-label', words);
  const show = event => {
    tip.textContent = words;
    tip.hidden = false;
    tip.style.left = Math.max(4, Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 4)) + 'px';
    tip.style.top = Math.max(4, event.clientY + 18 + tip.offsetHeight > innerHeight ? event.clientY - tip.offsetHeight - 10 : event.clientY + 18) + 'px';
  };
  dot.addEventListener('pointerenter', show);
  dot.addEventListener('pointermove', show);
  dot.addEventListener('pointerleave', () => { tip.hidden = true; });
}
addEventListener('beforeprint', () => document.querySelectorAll('details').forEach(d => { d.open = true; }));
)js";

}  // namespace

std::string html_page(const PageParts& parts) {
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{0}</title>\n"
      "<style>{1}{2}</style></head>\n<body>\n<h1>{0}</h1>\n<p class=\"soft\">{3}</p>\n{4}<script>{5}{6}</script>\n"
      "</body></html>\n",
      escaped_markup(parts.title), kPageStyle, parts.style, escaped_markup(parts.subtitle), parts.body, kPageScript,
      parts.script);
}

std::string number_cell(double value, std::string_view text, std::string_view style) {
  const std::string classes = style.empty() ? std::string() : fmt::format(" class=\"{}\"", style);
  return std::isfinite(value) ? fmt::format("<td data-v=\"{:.6g}\"{}>{}</td>", value, classes, text)
                              : fmt::format("<td data-v=\"-1e99\"{}>{}</td>", classes, text);
}

std::string figure_box(std::string_view value, std::string_view what) {
  return fmt::format("<div><b>{}</b>{}</div>\n", value, what);
}

}  // namespace graft
