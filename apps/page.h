// HTML pages that need nothing else: one file, no network, a script of a few lines without which everything can be read
// as well. Light and dark by the reader's setting, for desktops, phones and paper. What a page says is in
// profile_page.h and report/.
#pragma once

#include <string>
#include <string_view>

namespace graft {

struct PageParts {
  std::string title, subtitle;   // plain text
  std::string style, body;       // CSS beside the common one; markup below the headings
  std::string_view script = {};  // beside the common one
};

/// The whole file. Common classes: `figures` (boxes with a number in <b>), `key` (legend), `scroll` (around wide
/// tables), `soft` (secondary text), `wide` and `narrow` (one for desktops, one for phones), tables `sortable` by a
/// click on a heading (cells with data-v sort by that number), svg `.grid` and `.dot` (whose <title> becomes a tip).
std::string html_page(const PageParts& parts);

/// A cell of a sortable table. `text` is markup; a value that is not finite sorts below all numbers.
std::string number_cell(double value, std::string_view text, std::string_view style = {});

/// A box of `figures`.
std::string figure_box(std::string_view value, std::string_view what);

}  // namespace graft
