#pragma once

#include "support/forwarding_kernel.hpp"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <utility>

namespace ferrule_test {

/// A kernel with an environment of its own: the process's is neither read nor changed.
class EnvironmentKernel : public ForwardingKernel {
public:
    explicit EnvironmentKernel(std::map<std::string, std::string> variables = {},
                               ferrule::Kernel& below = ferrule::linux_kernel())
        : ForwardingKernel(below), variables_(std::move(variables)) {}

    std::map<std::string, std::string> variables() const {
        const std::lock_guard lock(mutex_);
        return variables_;
    }

    ssize_t environment(const char* name, char* value, std::size_t length) noexcept override {
        const std::lock_guard lock(mutex_);
        const auto found = variables_.find(name);
        if (found == variables_.end()) return -ENOENT;
        std::memcpy(value, found->second.data(), std::min(found->second.size(), length));
        return static_cast<ssize_t>(found->second.size());
    }
    int clear_environment(const char* name) noexcept override {
        const std::lock_guard lock(mutex_);
        variables_.erase(name);
        return 0;
    }

private:
    mutable std::mutex mutex_;
    std::map<std::string, std::string> variables_;
};

}  // namespace ferrule_test
