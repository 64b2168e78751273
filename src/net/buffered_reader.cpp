#include <ferrule/net/buffered_reader.hpp>

#include <stdexcept>

namespace ferrule::inline v0 {

void detail::ReadBuffer::refuse() {
    throw std::logic_error("advance past the end of what was read, or past what was looked at");
}

}  // namespace ferrule::inline v0
