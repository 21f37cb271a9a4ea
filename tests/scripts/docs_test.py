#!/usr/bin/env python3
"""Links of the documentation lead somewhere: files, headings, and paths of the tree that stand in backticks.

    tests/scripts/docs_test.py SOURCE
"""
import os
import re
import sys
import unittest

SOURCE = os.path.abspath(sys.argv.pop(1))
SKIPPED = {".git", "build"}
# What the texts speak of that is no file of the tree: files of runs and of users.
FILE = re.compile(r"[\w./-]+\.(?:cpp|h|cu|sh|py|md|cmake)")
FOLDER = re.compile(r"[\w-]+(?:/[\w-]+)*/")


def files_of_tree():
    found = set()
    for folder, folders, names in os.walk(SOURCE):
        folders[:] = [name for name in folders if name not in SKIPPED]
        found.update(os.path.relpath(os.path.join(folder, name), SOURCE) for name in names)
    return found


def without_code(text):
    return re.sub(r"(?m)^    .*$", "", re.sub(r"```.*?```", "", text, flags=re.S))


def anchor(heading):
    """As GitHub makes them."""
    words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.replace("`", "").strip()).lower()
    return re.sub(r"[^\w\- ]", "", words).replace(" ", "-")


class Documentation(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.files = files_of_tree()
        cls.texts = {}
        for name in sorted(cls.files):
            if name.endswith(".md"):
                with open(os.path.join(SOURCE, name), encoding="utf-8") as file:
                    cls.texts[name] = file.read()

    def test_links_lead_somewhere(self):
        anchors = {name: {anchor(h) for h in re.findall(r"(?m)^#+ (.*)$", text)} for name, text in self.texts.items()}
        links = 0
        for name, text in self.texts.items():
            for link in re.findall(r"\]\(([^)\s]+)\)", without_code(text)):
                if re.match("https?:|mailto:", link):
                    continue
                links += 1
                path, _, heading = link.partition("#")
                target = os.path.normpath(os.path.join(os.path.dirname(name), path)) if path else name
                self.assertTrue(os.path.exists(os.path.join(SOURCE, target)), f"{name}: {link}")
                if heading:
                    self.assertIn(heading, anchors.get(target, ()), f"{name}: {link}")
        self.assertGreater(links, 50)

    def test_paths_exist(self):
        paths = 0
        for name, text in self.texts.items():
            if not re.match("README|CONTRIBUTING|docs/|tests/", name):
                continue
            for code in re.findall(r"`([^`\n]+)`", text):
                for path in FILE.findall(code):
                    if "/" not in path or path.startswith("/") or path.split("/")[0] not in self.tops():
                        continue
                    paths += 1
                    self.assertTrue(path in self.files, f"{name}: there is no {path}")
                if FOLDER.fullmatch(code) and code.split("/")[0] in self.tops():
                    paths += 1
                    self.assertTrue(os.path.isdir(os.path.join(SOURCE, code)), f"{name}: `{code}`")
        self.assertGreater(paths, 50)

    def tops(self):
        """Folders at the top of the tree."""
        return {path.split("/")[0] for path in self.files if "/" in path}


if __name__ == "__main__":
    unittest.main()
