#pragma once

#include <ferrule/ring/buffer_ring.hpp>
#include <ferrule/ring/ring.hpp>

#include "ring/buffer_groups.hpp"

namespace ferrule::inline v0 {

/// What outlives a move of the ring: buffer rings keep it to unregister themselves while the ring is open.
struct Ring::Descriptor {
    Kernel* kernel = nullptr;
    int number = -1;  // -1: the ring is closed
    BufferGroups groups{BufferRing::first_group};
};

}  // namespace ferrule::inline v0
