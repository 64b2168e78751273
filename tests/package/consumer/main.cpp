#include <ferrule/assert.hpp>

#include <cstdio>

int main(int count, char**) {
    FERRULE_ASSERT(count > 0);
    std::puts(FERRULE_VERSION_STRING);
}
