#!/usr/bin/env python3
"""Shows that examples.py and links.py fail where they should, and pass where they should not fail. Argument: the C++ compiler."""

import pathlib
import sys
import tempfile
import unittest

import examples
import links

COMPILER = sys.argv.pop(1) if len(sys.argv) > 1 else "c++"


class Checked(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)

    def write(self, name, *lines):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")
        return path

    def assert_errors(self, found, *expected):
        """Each expected text is in one error, and there are no others."""
        self.assertEqual(len(found), len(expected), found)
        for text, error in zip(expected, found):
            self.assertIn(text, error)


class Examples(Checked):
    def check(self):
        return examples.check(self.root, COMPILER)

    def test_compiles_programs_and_fragments(self):
        self.write("README.md", "# Title", "```cpp", "#include <ferrule/server.hpp>", "int main() { return 0; }", "```")
        self.write("docs/page.md", "```cpp", "while (auto received = co_await connection.read()) {", "    connection.write(\"x\");", "}", "```")
        errors, count, _ = self.check()
        self.assert_errors(errors)
        self.assertEqual(count, 2)

    def test_functions_types_and_includes_stand_outside_the_body(self):
        self.write(
            "README.md",
            "```cpp", "#include <bitset>", "struct Served {", "    std::bitset<8> bits;", "};", "", "template <class T>", "Task<> twice(T what) {",
            "    co_await work();", "}", "", "const Served served;", "co_await twice(served.bits);", "```",
        )  # fmt: skip
        self.write("docs/page.md", "```cpp", "Task<int> answer() {", "    co_return 42;", "}", "```")
        self.assert_errors(self.check()[0])

    def test_names_page_and_line_of_what_does_not_compile(self):
        self.write("README.md", "text", "```cpp", "co_await work();", "co_await wrok();", "```")
        self.assert_errors(self.check()[0], "README.md:4:")

    def test_names_page_and_line_in_a_program(self):
        self.write("docs/page.md", "```cpp", "int main() {", "    return nothing;", "}", "```")
        self.assert_errors(self.check()[0], "docs/page.md:3:")

    def test_looks_into_doc_comments(self):
        self.write("include/more/thing.hpp", "/// A thing:", "///", "/// ```cpp", "/// co_await wrok();", "/// ```", "struct Thing {};")
        self.assert_errors(self.check()[0], "include/more/thing.hpp:4:")

    def test_drawings_and_other_languages_are_no_examples(self):
        self.write("README.md", "```", "| drawn |", "```", "```sh", "make", "```", "``` text", "no", "```")
        errors, count, _ = self.check()
        self.assert_errors(errors)
        self.assertEqual(count, 0)

    def test_ignored_results_are_errors(self):
        self.write("README.md", "```cpp", "connection.read();", "```")
        self.assert_errors(self.check()[0], "README.md:2:")

    def test_fences(self):
        self.write("README.md", "```c++", "int x;", "```", "```cpp maybe", "int x;", "```", "```cpp", "int x;")
        self.assert_errors(self.check()[0], "README.md:1: a block of c++", "README.md:4: cpp maybe", "README.md:7: a block that does not end")
        self.write("README.md", "text")
        self.write("include/more/thing.hpp", "/// ```cpp", "/// int x;", "struct Thing {};", "/// ```")
        self.assert_errors(
            self.check()[0], "thing.hpp:1: a block that does not end", "thing.hpp:4: a block that does not end"
        )

    def test_banned_shapes_only_where_they_are_said_to_be_wrong(self):
        lines = ["const bool ready = true;", "if (ready && (co_await ask(\"x\")).empty()) co_await work();"]
        self.write("README.md", "```cpp wrong", *lines, "```")
        self.assert_errors(self.check()[0])
        self.write("README.md", "```cpp", *lines, "```")
        errors = self.check()[0]
        self.assertTrue(errors)
        for error in errors:
            self.assertIn("README.md:3:", error)

    def test_defaults_in_tables(self):
        self.write("docs/page.md", "| `ReactorOptions::inline_budget` | `128` | why |", "| `NetworkOptions::idle_timeout` | `60s` |")
        errors, _, defaults = self.check()
        self.assert_errors(errors)
        self.assertEqual(defaults, 2)
        for wrong in ("ReactorOptions::inline_budget` | `127`", "http::ServeOptions::pipeline_limit` | `65`"):
            self.write("docs/page.md", f"| `{wrong} | why |")
            self.assert_errors(self.check()[0], "docs/page.md:1:")


class Links(Checked):
    def test_files_and_headings(self):
        self.write("docs/page.md", "# The page", "## A `code` heading, and more", "[up](../README.md#first-steps)")
        self.write("README.md", "# First steps", "[a](docs/page.md) [b](docs/page.md#a-code-heading-and-more) [c](#first-steps) [d](docs/)")
        self.write("docs/other.md", "```sh", "[not a](link)", "```", "`[nor](this)`, [outside](https://example.org/none)")
        self.assert_errors(links.check(self.root))

    def test_tests_that_a_page_names_are_there(self):
        self.write("tests/net/page_test.cpp", "TEST(Page, opens) {}", "TEST_P(Page, closes) {}")
        self.write("docs/page.md", "# A", "[`Page.opens`](../tests/net/page_test.cpp), [`Page.closes`](../tests/net/page_test.cpp)")
        self.assert_errors(links.check(self.root))
        self.write("docs/page.md", "# A", "[`Page.turns`](../tests/net/page_test.cpp)", "[`Page.opens`](../tests/net/none_test.cpp)")
        self.assert_errors(links.check(self.root), "docs/page.md:2: ../tests/net/page_test.cpp: it has no test Page.turns", "docs/page.md:3:")

    def test_missing_files_and_headings(self):
        self.write("README.md", "# Title", "", "[a](docs/none.md)", "[b](#none) [c](README.md#none-either)")
        self.assert_errors(links.check(self.root), "README.md:3: docs/none.md", "README.md:4: #none", "README.md:4: README.md#none-either")


if __name__ == "__main__":
    unittest.main()
