#pragma once

#include <ferrule/ring/ring.hpp>

namespace ferrule::inline v0 {

/// What outlives a move of the ring: buffer rings keep it to unregister themselves while the ring is open.
struct Ring::Descriptor {
    Kernel* kernel = nullptr;
    int number = -1;  // -1: the ring is closed
};

}  // namespace ferrule::inline v0
