#!/usr/bin/env python3
"""Shows that each check of tidy.py fails where it should, and passes where it should not fail. Argument: the C++ compiler."""

import pathlib
import subprocess
import sys
import tempfile
import unittest

import coroutine_shapes
import source
import tidy

COMPILER = sys.argv.pop(1) if len(sys.argv) > 1 else "c++"


class Checked(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def check(self, check, build=None):
        return check(tidy.Tree(self.root, build))

    def assert_finds(self, check, *expected, build=None):
        """Each expected text is in one violation, and there are no others."""
        violations = self.check(check, build)
        self.assertEqual(len(violations), len(expected), violations)
        for text, violation in zip(expected, violations):
            self.assertIn(text, violation)


class Formatting(Checked):
    def test_unformatted_file_is_found(self):
        self.write(".clang-format", (pathlib.Path(__file__).parents[2] / ".clang-format").read_text())
        self.write("src/net/good.cpp", "int good() {\n    return 1;\n}\n")
        self.write("src/net/bad.cpp", "int  bad(){return 1;}\n")
        try:
            self.assert_finds(tidy.formatting, "src/net/bad.cpp:1")
        except tidy.Skip as reason:
            self.skipTest(str(reason))


class Floors(Checked):
    def test_lower_floor_and_own_folder_and_ground_are_allowed(self):
        self.write("include/ferrule/net/a.hpp", "#include <ferrule/reactor/b.hpp>\n#include <ferrule/net/c.hpp>\n#include <ferrule/version.hpp>\n")
        self.write("src/net/a.cpp", '#include "net/private.hpp"\n#include "private.hpp"\n#include <vector>\n')
        self.write("include/ferrule/server.hpp", "#include <ferrule/net/a.hpp>\n#include <ferrule/server/server.hpp>\n")
        self.assert_finds(tidy.floors)

    def test_higher_floor_is_found(self):
        self.write("src/reactor/a.cpp", "\n#include <ferrule/net/b.hpp>\n")
        self.assert_finds(tidy.floors, "src/reactor/a.cpp:2: reactor is on floor 2")

    def test_private_header_of_a_higher_floor_is_found(self):
        self.write("src/reactor/a.cpp", '#include "server/b.hpp"\n')
        self.assert_finds(tidy.floors, "reactor is on floor 2")

    def test_neighbours_on_one_floor_are_found(self):
        self.write("include/ferrule/task/a.hpp", "#include <ferrule/ring/b.hpp>\n")
        self.write("include/ferrule/ring/b.hpp", "#include <ferrule/task/a.hpp>\n")
        self.write("src/fs/c.cpp", "#include <ferrule/net.hpp>\n")
        self.assert_finds(tidy.floors, "ring is on floor 1", "task is on floor 1", "fs is on floor 3")

    def test_connections_may_know_files_and_not_the_other_way(self):
        self.write("src/net/a.cpp", "#include <ferrule/fs/b.hpp>\n")
        self.assert_finds(tidy.floors)
        self.write("src/fs/a.cpp", "#include <ferrule/net/b.hpp>\n")
        self.assert_finds(tidy.floors, "fs is on floor 3")

    def test_unknown_area_is_found(self):
        self.write("src/attic/a.cpp", "#include <ferrule/net/b.hpp>\n")
        self.assert_finds(tidy.floors, "attic is on no floor")

    def test_simulator_is_behind_the_seam(self):
        self.write("src/sim/a.cpp", "#include <ferrule/ring/kernel.hpp>\n#include <ferrule/task/host.hpp>\n#include <ferrule/net/b.hpp>\n")
        self.write("src/net/c.cpp", "#include <ferrule/sim/a.hpp>\n")
        self.assert_finds(tidy.floors, "only tests may know", "behind the ring's seam")

    def test_ground_includes_no_floor(self):
        self.write("include/ferrule/assert.hpp", "#include <ferrule/ring/error.hpp>\n")
        self.assert_finds(tidy.floors, "below every floor")

    def test_playground_uses_public_headers_only(self):
        self.write("playground/a.cpp", '#include <ferrule/server.hpp>\n#include "options.hpp"\n#include "net/private.hpp"\n')
        self.write("playground/options.hpp", "")
        self.assert_finds(tidy.floors, "playground/a.cpp:3: only public headers")


class Headers(Checked):
    def built(self, *sources):
        import json

        entries = [{"file": str(self.write(f"build/header_self_containment/{number}.cpp", text))} for number, text in enumerate(sources)]
        self.write("build/compile_commands.json", json.dumps(entries))
        return self.root / "build"

    def test_kernel_header_is_found(self):
        self.write("include/ferrule/ring/a.hpp", "#pragma once\n#include <linux/io_uring.h>\n")
        self.assert_finds(tidy.headers, "a.hpp:2: the ABI is our own", build=self.built("#include <ferrule/ring/a.hpp>\n"))

    def test_missing_pragma_is_found(self):
        self.write("include/ferrule/ring/a.hpp", "int a();\n")
        self.assert_finds(tidy.headers, "no #pragma once", build=self.built("#include <ferrule/ring/a.hpp>\n"))

    def test_header_that_is_not_compiled_is_found(self):
        self.write("include/ferrule/ring/a.hpp", "#pragma once\n")
        self.assert_finds(tidy.headers, "not compiled alone", build=self.built("#include <ferrule/ring/b.hpp>\n"))

    def test_header_that_does_not_stand_alone_does_not_compile(self):
        for text, compiles in (("inline std::size_t a = 0;\n", False), ("#include <cstddef>\ninline std::size_t a = 0;\n", True)):
            header = self.write("alone.hpp", "#pragma once\n" + text)
            unit = self.write("alone.cpp", f'#include "{header}"\n#include "{header}"\n')
            result = subprocess.run([COMPILER, "-std=c++23", "-fsyntax-only", unit], capture_output=True, check=False)
            self.assertEqual(result.returncode == 0, compiles)


class Coroutines(unittest.TestCase):
    def shapes(self, body):
        statements = source.statements(source.tokenize("Task<> run(Connection connection) {\n" + body + "\n}"))
        return [what for _, what in coroutine_shapes.violations(statements)]

    def assert_found(self, body, what):
        found = self.shapes(body)
        self.assertTrue(found and all(what in each for each in found), f"{body!r}: {found}")

    def assert_allowed(self, body):
        self.assertEqual(self.shapes(body), [], body)

    def test_capturing_coroutine_lambda(self):
        what = "a capturing lambda is a coroutine"
        self.assert_found("auto f = [&]() -> Task<> { co_await a(); };", what)
        self.assert_found("spawn([this]() -> Task<> { if (x) { co_return; } });", what)
        self.assert_found("f({[x] -> Task<int> { co_return x; }});", what)
        self.assert_found("server.on([state = std::move(s)](Connection c) mutable noexcept -> Task<> { co_await c.read(); });", what)
        self.assert_allowed("auto f = []() -> Task<> { co_await a(); };")
        self.assert_allowed("auto f = [&] { return 1; };")
        self.assert_allowed("auto f = [&] { return []() -> Task<> { co_return; }; };")
        self.assert_allowed("auto [a, b] = pair; values[index] = 1; [[maybe_unused]] int c = 0; co_return;")

    def test_await_in_a_condition(self):
        what = "in the condition of"
        self.assert_found("if (co_await ready()) { go(); }", what)
        self.assert_found("while ((co_await connection.read()).ok()) go();", what)
        self.assert_found("do { go(); } while (co_await more());", what)
        self.assert_found("switch (co_await kind()) { case 1: break; }", what)
        self.assert_found("for (int i = 0; i < co_await limit(); ++i) {}", what)
        self.assert_found("for (auto slice : co_await connection.read()) {}", what)
        self.assert_found("if (x) { } else if (co_await ready()) { }", what)
        self.assert_found("if (a) if (co_await ready()) go();", what)
        self.assert_found("while (received = co_await connection.read()) {}", what)
        self.assert_found("if (auto x = co_await a(); co_await b(x)) {}", what)
        self.assert_allowed("while (auto received = co_await connection.read()) { go(); }")
        self.assert_allowed("if (const Result<int>& result = co_await f()) { go(); }")
        self.assert_allowed("if (auto result = co_await f(); !result) { co_return; }")
        self.assert_allowed("if (ready) co_await f();")

    def test_await_in_operators(self):
        self.assert_found("auto x = flag ? co_await a() : 0;", "`?`")
        self.assert_found("auto x = (co_await a()).ok() ? 1 : 0;", "`?`")
        self.assert_found("bool x = ready && co_await a();", "`&&`")
        self.assert_found("bool x = co_await a() || ready;", "`||`")
        self.assert_found("check(ready && (co_await a()).ok());", "`&&`")
        self.assert_found("if (auto x = flag ? co_await a() : 0) {}", "`?`")
        self.assert_allowed("auto&& x = co_await a();")
        self.assert_allowed("Result&& x = co_await a();")
        self.assert_allowed("co_await a(ready && willing, flag ? 1 : 2);")
        self.assert_allowed("if (ready && willing) { co_await a(); }")

    def test_await_in_an_initializer_list(self):
        what = "initializer list"
        self.assert_found("std::vector<int> x{co_await a(), co_await b()};", what)
        self.assert_found("Point p = {co_await a(), 1};", what)
        self.assert_found("f({.port = co_await a()});", "")
        self.assert_found("co_return Point{co_await a()};", what)
        self.assert_allowed("if (x) { co_await a(); }")
        self.assert_allowed("try { co_await a(); } catch (...) { co_return; }")
        self.assert_allowed("switch (x) { case 1: { co_await a(); } default: co_await b(); }")

    def test_await_beside_a_capturing_lambda(self):
        what = "with a capturing lambda"
        self.assert_found("co_await offload([&] { return f(); });", what)
        self.assert_found("auto x = co_await offload([path] { return f(path); });", what)
        self.assert_found("while (auto x = co_await next([&] { return 1; })) {}", what)
        self.assert_allowed("co_await offload([] { return f(); });")
        self.assert_allowed("auto work = [&] { return f(); }; co_await offload(work);")

    def test_await_beside_a_braced_argument(self):
        what = "braced temporary as an argument"
        self.assert_found("co_await connect(Address{host, 80});", what)
        self.assert_found("auto x = co_await client.query({.text = text});", what)
        self.assert_found("co_await a(f(std::vector<int>{1, 2}));", what)
        self.assert_allowed("co_await sleep_for(std::chrono::milliseconds{5});")
        self.assert_allowed("co_await Yield{};")
        self.assert_allowed("Address address{host, 80}; co_await connect(address);")
        self.assert_allowed("connect(Address{host, 80});")

    def test_members_and_classes_are_seen(self):
        text = "namespace a { struct B final : C { B() : x_{1} { } Task<> run() const { if (co_await f()) { } } }; }"
        found = list(coroutine_shapes.violations(source.statements(source.tokenize(text))))
        self.assertEqual(len(found), 1, found)

    def test_templates_are_seen(self):
        text = "template <class T>\n    requires C<T>\nauto run(T t) -> Task<> { bool x = a && co_await t; }"
        found = list(coroutine_shapes.violations(source.statements(source.tokenize(text))))
        self.assertEqual(len(found), 1, found)

    def test_comments_and_strings_are_not_code(self):
        self.assert_allowed('// if (co_await x)\n/* while (co_await y) */ log("if (co_await z)", R"(a && co_await b)");')

    def test_violations_name_file_and_line(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "tests/net/a_test.cpp"
            path.parent.mkdir(parents=True)
            path.write_text("Task<> f() {\n    if (co_await g()) {}\n}\n")
            found = tidy.coroutines(tidy.Tree(folder))
        self.assertEqual(len(found), 1)
        self.assertTrue(found[0].startswith("tests/net/a_test.cpp:2:"), found)


class Globals(Checked):
    def test_mutable_statics_in_sources_are_found(self):
        self.write(
            "src/net/a.cpp",
            "namespace ferrule {\nthread_local int a = 0;\nstatic int b;\nint f() {\n    static std::mutex c;\n    return 1;\n}\n"
            "inline std::atomic<int> d{0};\nauto g = [] { static int e = 0; return e; };\n}\n",
        )
        self.assert_finds(tidy.globals_, ":2: a is", ":3: b is", ":5: c is", ":8: d is", ":9: e is")

    def test_constants_and_functions_are_allowed(self):
        self.write(
            "src/net/a.cpp",
            "static constexpr int a = 0;\nstatic const int b = 1;\nstatic int f();\nstatic int g() { return 1; }\n"
            "inline constexpr int c{1};\ninline int h() { return 1; }\nextern thread_local constinit Host* current_host;\n"
            "struct S { static S make(); int value = 0; };\n",
        )
        self.assert_finds(tidy.globals_)

    def test_mutable_symbols_of_a_library_are_found(self):
        unit = self.write(
            "unit.cpp",
            "int counter = 1;\nstatic int zero;\nthread_local int local = 2;\nint* use() { return &zero + local; }\n"
            "int lazy() { static int value = *use(); return value; }\n"
            "struct B { virtual ~B(); virtual int f(); };\nB::~B() = default;\nint B::f() { return 1; }\n"
            "extern const char* const name;\nconst char* const name = \"n\";\n",
        )
        build = self.root / "build"
        build.mkdir()
        subprocess.run([COMPILER, "-O1", "-fPIC", "-c", unit, "-o", build / "unit.o"], check=True)
        subprocess.run(["ar", "rc", build / "libferrule.a", build / "unit.o"], check=True)
        found = " ".join(sorted(self.check(tidy.globals_, build)))
        for symbol in ("counter", "zero", "local", "lazy()::value", "guard variable for lazy()::value"):
            self.assertIn(f"{symbol} is in", found)
        self.assertNotIn("vtable", found)
        self.assertNotIn("name is in", found)

    def test_a_stateless_object_has_no_state(self):
        line = "a::(anonymous namespace)::the_linux_kernel|0000|   d  |            OBJECT|%s|     |.data.rel.local"
        self.assertEqual(tidy.mutable_symbols(line % "0000000000000008"), [])
        self.assertEqual(len(tidy.mutable_symbols(line % "0000000000000010")), 1)


class Documentation(Checked):
    def test_missing_comments_are_found(self):
        self.write(
            "include/ferrule/net/a.hpp",
            "namespace ferrule::inline v0 {\nclass A {\npublic:\n    A();\n    void no();\n    /// Yes.\n    void yes();\nprivate:\n"
            "    void hidden();\n};\n\nint f(int value);\n\nenum class E { one };\n\ntemplate <class T>\nT g(T value) { return value; }\n}\n",
        )
        self.assert_finds(tidy.documentation, ":2: A ", ":5: no ", ":12: f ", ":14: E ", ":16: g ")

    def test_documented_and_private_things_are_allowed(self):
        self.write(
            "include/ferrule/net/a.hpp",
            "namespace ferrule::inline v0 {\nclass Forward;\n/// A.\nclass A {\npublic:\n    ~A();\n    bool await_ready() const;\n"
            "    /// Overloads share a comment.\n    void f(int);\n    void f(long);\n\nprivate:\n    void hidden();\n    int value_ = f(1);\n};\n\n"
            "inline void A::f(int) {}\n\nusing B = A;\n\nconstexpr int limit = 3;\n\nnamespace detail {\nvoid g();\n}\n\n"
            "/// E.\nenum class E { one };\n\n/// N.\nclass [[nodiscard(\"why\")]] alignas(64) N {\npublic:\n    N();\n};\n\n/// T.\ntemplate <class T>\n    requires true\nvoid t(T value);\n\nstatic_assert(sizeof(A) == 1);\n}\n",
        )
        self.assert_finds(tidy.documentation)


class Unfinished(Checked):
    def test_marks_are_found(self):
        for number, mark in enumerate(("TO" "DO", "FIX" "ME", "XX" "X")):
            self.write(f"src/net/{number}.cpp", f"// {mark}: later\n")
        self.write("src/net/fine.cpp", "// TODOS is another word\n")
        self.assert_finds(tidy.unfinished, "0.cpp:1", "1.cpp:1", "2.cpp:1")


class Names(Checked):
    def test_source_without_header_is_found(self):
        self.write("include/ferrule/net/socket.hpp", "")
        self.write("include/ferrule/assert.hpp", "")
        self.write("src/net/socket.cpp", "")
        self.write("src/ring/assert.cpp", "")
        self.write("src/net/private.hpp", "")
        self.write("src/net/private.cpp", "")
        self.write("src/net/private_part.cpp", "")
        self.write("src/net/orphan.cpp", "")
        self.assert_finds(tidy.names, "src/net/orphan.cpp")

    def test_test_without_its_concept_is_found(self):
        self.write("include/ferrule/net/socket.hpp", "")
        self.write("tests/net/socket_test.cpp", "")
        self.write("tests/net/socket_options_test.cpp", "")
        self.write("tests/net/orphan_test.cpp", "")
        self.write("tests/support/anything.hpp", "")
        self.assert_finds(tidy.names, "tests/net/orphan_test.cpp")

    def test_names_that_name_nothing_are_found(self):
        self.write("include/ferrule/net/socket_util.hpp", "")
        self.write("src/impl/implicit.hpp", "")
        self.assert_finds(tidy.names, "socket_util", "src/impl/implicit.hpp")


class Metrics(Checked):
    def test_metrics_without_a_row_and_rows_without_a_metric_are_found(self):
        self.write("include/ferrule/net/a.hpp", 'Row{&Its::a, {"ferrule_a_total", "A."}},\nRow{&Its::b,\n    {"ferrule_b", by_state, none, {"x", "y"}}},\n')
        self.write("src/net/a.cpp", 'value("ferrule_c");\nconstexpr MetricDescription d{"process_d", "D."};\n')
        self.write("docs/operations.md", "| `ferrule_a_total` | A |\n| `ferrule_b{x}`, `ferrule_e` | of `ferrule_f` |\nno row: `ferrule_g`\n")
        self.assert_finds(tidy.metrics, "src/net/a.cpp:2: process_d", "docs/operations.md:2: ferrule_e")


class Everything(unittest.TestCase):
    def test_every_check_is_listed(self):
        listed = (pathlib.Path(__file__).parent / "CMakeLists.txt").read_text()
        for name in tidy.CHECKS:
            self.assertRegex(listed, rf"foreach\(check [^)]*\b{name}\b")


if __name__ == "__main__":
    unittest.main()
