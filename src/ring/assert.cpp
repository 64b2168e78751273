#include <ferrule/assert.hpp>

#include <cstdio>
#include <cstdlib>

namespace ferrule::inline v0 {

void assertion_failed(const char* file, int line, const char* what) noexcept {
    std::fprintf(stderr, "ferrule: %s:%d: %s\n", file, line, what);
    std::abort();
}

}  // namespace ferrule::inline v0
