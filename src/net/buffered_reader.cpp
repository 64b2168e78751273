#include <ferrule/net/buffered_reader.hpp>

#include <cstdint>
#include <stdexcept>

namespace ferrule::inline v0 {

void detail::ReadBuffer::refuse() {
    throw std::logic_error("advance past the end of what was read, or past what was looked at");
}

ReadResult detail::ReadBuffer::take_part(std::size_t consumed) {
    if (consumed > size_) refuse();
    examined_ = 0;
    ReadResult taken = received_.take_prefix(consumed);
    if (taken) size_ -= static_cast<std::uint32_t>(consumed);
    return taken;
}

}  // namespace ferrule::inline v0
