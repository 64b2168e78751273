#include "http/limit_check.hpp"

#include <stdexcept>
#include <string>

namespace ferrule::inline v0::http {

void refuse_limit(const char* name, std::uint32_t value, std::uint32_t most) {
    throw std::invalid_argument(std::string("HeadLimits::") + name + " is " + std::to_string(value) +
                                "; it can be at most " + std::to_string(most));
}

}  // namespace ferrule::inline v0::http
