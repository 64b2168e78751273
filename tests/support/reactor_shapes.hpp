#pragma once

#include "support/network_engine.hpp"

#include <gtest/gtest.h>

#include <string>

namespace ferrule_test {

/// The shapes of a reactor that all cases of reading run on.
enum class Shape { usual, small_rings, one_buffer, incremental, per_connection, one_small_buffer_each };

inline constexpr Shape all_shapes[] = {Shape::usual,       Shape::small_rings,    Shape::one_buffer,
                                       Shape::incremental, Shape::per_connection, Shape::one_small_buffer_each};

inline std::string name_of_shape(const testing::TestParamInfo<Shape>& info) {
    switch (info.param) {
        case Shape::usual:
            return "Usual";
        case Shape::small_rings:
            return "SmallRings";
        case Shape::one_buffer:
            return "OneBuffer";
        case Shape::incremental:
            return "Incremental";
        case Shape::per_connection:
            return "PerConnection";
        case Shape::one_small_buffer_each:
            return "OneSmallBufferEach";
    }
    return {};
}

inline EngineOptions options_for(Shape shape, unsigned reactors = 1) {
    EngineOptions options;
    options.reactors = reactors;
    switch (shape) {
        case Shape::usual:
            break;
        case Shape::small_rings:
            options.reactor.submission_entries = 4;
            options.reactor.completion_entries = 8;
            break;
        case Shape::one_buffer:
            options.network.receive_buffer_count = 1;
            break;
        case Shape::incremental:
            options.network.buffer_mode = ferrule::BufferMode::shared_incremental;
            options.network.receive_buffer_count = 64;
            options.network.receive_buffer_size = 16384;
            break;
        case Shape::per_connection:
            options.network.buffer_mode = ferrule::BufferMode::per_connection_incremental;
            break;
        case Shape::one_small_buffer_each:
            options.reactor.submission_entries = 4;
            options.reactor.completion_entries = 8;
            options.network.buffer_mode = ferrule::BufferMode::per_connection_incremental;
            options.network.connection_buffer_count = 1;
            options.network.connection_buffer_size = 100;
            break;
    }
    return options;
}

/// Whether the kernel has what the shape is about.
inline bool usable(Shape shape, Engine& engine) {
    return engine.network().buffer_mode() == options_for(shape).network.buffer_mode;
}

}  // namespace ferrule_test

/// In a test of a Shape, skips when the kernel has not what it is about.
#define FERRULE_SKIP_UNLESS_USABLE(engine) \
    if (!ferrule_test::usable(GetParam(), (engine))) GTEST_SKIP() << "the kernel has no incremental buffers (6.12)"
