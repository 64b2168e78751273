#!/usr/bin/env bash
# package_test.sh static|shared <source> <build> <work>: installs into <work>/prefix, moves that, builds the README's example against it with
# CMake and with pkg-config, and runs it.
set -euo pipefail
kind=$1 source=$2 build=$3 work=$4
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
fail() { echo "package_test: $*" >&2; exit 1; }
cache() { sed -n "s/^$1:[A-Z]*=//p" "$build/CMakeCache.txt"; }
compiler=$(cache CMAKE_CXX_COMPILER)
launcher=$(cache CMAKE_CXX_COMPILER_LAUNCHER)

# Without it nobody would see what a program links.
if ! command -v readelf >/dev/null; then
    echo "SKIPPED: readelf is not installed (Debian: binutils)"
    exit 77
fi

mkdir -p "$work"
rm -rf "$work"/{prefix,moved,consumer}
if [ "$kind" = shared ]; then
    build=$work/library
    cmake -S "$source" -B "$build" -G Ninja -DCMAKE_CXX_COMPILER="$compiler" -DCMAKE_CXX_COMPILER_LAUNCHER="$launcher" -DCMAKE_BUILD_TYPE=Release \
        -DBUILD_SHARED_LIBS=ON -DFERRULE_BUILD_TESTS=OFF -DFERRULE_BUILD_PLAYGROUND=OFF >/dev/null
    cmake --build "$build"
fi
cmake --install "$build" --prefix "$work/prefix" >/dev/null
mv "$work/prefix" "$work/moved"
prefix=$work/moved

# Any free port instead of the README's own.
example=$work/example.cpp
# shellcheck disable=SC2016  # the backticks are Markdown's
sed -n '/^```cpp$/,/^```$/{/^```/d;p}' "$source/README.md" | sed 's/\.port = 8080/.port = 0/' >"$example"
grep -q '\.port = 0' "$example" || fail "the README's example has no .port = 8080"

# The libraries that a program or a library needs, each on a line: there is always one.
needed_by() {
    local dynamic needed
    dynamic=$(readelf -dW "$1") || fail "readelf cannot read $1"
    needed=$(sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' <<<"$dynamic")
    [ -n "$needed" ] || fail "readelf finds nothing that $1 needs"
    echo "$needed"
}

# That the program needs no library whose name begins so.
expect_without() {
    local needed
    needed=$(needed_by "$1")
    ! grep -q "^$2" <<<"$needed" || fail "$3: $needed"
}

# Runs the program, and holds what it links against the promise: libc, threads and the language's own runtime, nothing else.
check() {
    local program=$1 needed library shared
    python3 "$here/echo_check.py" "$program" || fail "$program does not echo"
    needed=$(needed_by "$program")
    if [ "$kind" = shared ]; then
        grep -q '^libferrule\.so\.' <<<"$needed" || fail "$program does not link the shared library: $needed"
        shared=$(find "$prefix" -name libferrule.so)
        needed+=$'\n'$(needed_by "$shared")
    fi
    for library in $needed; do
        case $library in
            libc.so.* | libm.so.* | libpthread.so.* | ld-linux* | libstdc++.so.* | libgcc_s.so.*) ;;
            libferrule.so.*) [ "$kind" = shared ] || fail "$program links $library" ;;
            *) fail "$program links $library: the core may need only libc, threads and the language's runtime" ;;
        esac
    done
}

# Built where zlib and brotli are.
compression=OFF
if [ -n "$(find "$prefix" -name 'libferrule_http_compression.*')" ]; then compression=ON; fi

version=$(sed -n 's/.*FERRULE_VERSION_STRING "\(.*\)"/\1/p' "$source/include/ferrule/version.hpp")
cmake -S "$here/consumer" -B "$work/consumer" -G Ninja -DCMAKE_CXX_COMPILER="$compiler" -DCMAKE_BUILD_TYPE=Debug -DCMAKE_PREFIX_PATH="$prefix" \
    -DEXPECTED_VERSION="$version" -DREADME_EXAMPLE="$example" -DWITH_COMPRESSION=$compression >/dev/null
cmake --build "$work/consumer"
check "$work/consumer/consumer"
"$work/consumer/simulation" || fail "the simulated server does not echo"
"$work/consumer/admin" || fail "the admin port does not answer"
"$work/consumer/http" || fail "no JSON is written"
expect_without "$work/consumer/http" 'lib\(z\|brotli\)' "HTTP without compression links its libraries"
[ $compression = OFF ] || "$work/consumer/http_compression" || fail "nothing is compressed"
"$work/consumer/http_parser" || fail "the HTTP parser does not parse"
expect_without "$work/consumer/http_parser" 'libferrule\.so' "the HTTP parser links the runtime"

if ! command -v pkg-config >/dev/null; then
    echo "SKIPPED: pkg-config is not installed (the CMake half passed)"
    exit 77
fi
configuration=$(dirname "$(find "$prefix" -name ferrule.pc)")
export PKG_CONFIG_PATH=$configuration
[ "$(pkg-config --modversion ferrule)" = "$version" ] || fail "ferrule.pc has version $(pkg-config --modversion ferrule), not $version"
# shellcheck disable=SC2046  # the flags are words
"$compiler" -std=c++23 -o "$work/consumer/by_pkg_config" "$example" $(pkg-config --cflags --libs ferrule) \
    -Wl,-rpath,"$(pkg-config --variable=libdir ferrule)"
check "$work/consumer/by_pkg_config"
[ "$(pkg-config --modversion ferrule-sim)" = "$version" ] || fail "ferrule-sim.pc has version $(pkg-config --modversion ferrule-sim), not $version"
# shellcheck disable=SC2046  # the flags are words
"$compiler" -std=c++23 -o "$work/consumer/simulation_by_pkg_config" "$here/consumer/simulation.cpp" $(pkg-config --cflags --libs ferrule-sim) \
    -Wl,-rpath,"$(pkg-config --variable=libdir ferrule)"
"$work/consumer/simulation_by_pkg_config" || fail "the simulated server does not echo, built with pkg-config"
[ "$(pkg-config --modversion ferrule-admin)" = "$version" ] || fail "ferrule-admin.pc has version $(pkg-config --modversion ferrule-admin), not $version"
# shellcheck disable=SC2046  # the flags are words
"$compiler" -std=c++23 -o "$work/consumer/admin_by_pkg_config" "$here/consumer/admin.cpp" $(pkg-config --cflags --libs ferrule-admin) \
    -Wl,-rpath,"$(pkg-config --variable=libdir ferrule)"
"$work/consumer/admin_by_pkg_config" || fail "the admin port does not answer, built with pkg-config"
[ "$(pkg-config --modversion ferrule-http)" = "$version" ] || fail "ferrule-http.pc has version $(pkg-config --modversion ferrule-http), not $version"
# shellcheck disable=SC2046  # the flags are words
"$compiler" -std=c++23 -o "$work/consumer/http_by_pkg_config" "$here/consumer/http.cpp" $(pkg-config --cflags --libs ferrule-http) \
    -Wl,-rpath,"$(pkg-config --variable=libdir ferrule)"
"$work/consumer/http_by_pkg_config" || fail "no JSON is written, built with pkg-config"
[ "$(pkg-config --modversion ferrule-http-parser)" = "$version" ] ||
    fail "ferrule-http-parser.pc has version $(pkg-config --modversion ferrule-http-parser), not $version"
# shellcheck disable=SC2046  # the flags are words
"$compiler" -std=c++23 -o "$work/consumer/http_parser_by_pkg_config" "$here/consumer/http_parser.cpp" \
    $(pkg-config --cflags --libs ferrule-http-parser) -Wl,-rpath,"$(pkg-config --variable=libdir ferrule-http-parser)"
"$work/consumer/http_parser_by_pkg_config" || fail "the HTTP parser does not parse, built with pkg-config"
if [ $compression = ON ]; then
    # shellcheck disable=SC2046  # the flags are words
    "$compiler" -std=c++23 -o "$work/consumer/http_compression_by_pkg_config" "$here/consumer/http_compression.cpp" \
        $(pkg-config --cflags --libs ferrule-http-compression) -Wl,-rpath,"$(pkg-config --variable=libdir ferrule-http-compression)"
    "$work/consumer/http_compression_by_pkg_config" || fail "nothing is compressed, built with pkg-config"
fi
echo "package_test: $kind library, found with CMake and with pkg-config"
