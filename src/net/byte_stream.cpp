#include <ferrule/net/byte_stream.hpp>

#include <stdexcept>

namespace ferrule::inline v0 {

void detail::refuse_delimiter() {
    throw std::logic_error("ByteStream::read_until: the delimiter is empty");
}

}  // namespace ferrule::inline v0
