#pragma once

#include <gtest/gtest.h>

namespace ferrule_test {

/// For tests that run fibers: ThreadSanitizer takes them for one thread whose stack jumps, and there is only one thread
/// of the system, so it has nothing to find.
class WithoutThreadSanitizer : public testing::Test {
protected:
    void SetUp() override {
#if defined(__SANITIZE_THREAD__)
        GTEST_SKIP() << "ThreadSanitizer does not know the stacks of fibers; a simulation has one thread";
#endif
    }
};

}  // namespace ferrule_test
