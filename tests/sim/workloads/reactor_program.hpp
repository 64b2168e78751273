#pragma once

#include <ferrule/reactor/reactor.hpp>

#include "sim/workloads/workload.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

namespace ferrule_test {

/// A program with reactors in its own hands: a thread for each, until `until` holds; then they are drained.
class ReactorProgram {
public:
    ReactorProgram(WorkloadRun& run, std::size_t reactors, ferrule::ReactorOptions options,
                   ferrule::NetworkOptions network);
    ReactorProgram(const ReactorProgram&) = delete;
    ReactorProgram& operator=(const ReactorProgram&) = delete;

    /// Called on each reactor's thread when it starts.
    void on_start(std::function<void(ferrule::Reactor&)> function) { on_start_ = std::move(function); }
    /// Called on the program's main thread when all have started.
    void main(std::function<void()> function) { main_ = std::move(function); }
    /// The program waits until this holds; two hours of virtual time at most, then it is a finding.
    void until(std::function<bool()> condition) { until_ = std::move(condition); }
    /// Called for each reactor when all have ended.
    void on_end(std::function<void(ferrule::Reactor&)> function) { on_end_ = std::move(function); }
    /// So many reactors may end before the others without ending the program.
    void outlast(std::size_t reactors) noexcept { outlasted_ = reactors; }
    void start();

    /// The reactors, while the program runs.
    [[nodiscard]] ferrule::Reactor& reactor(std::size_t index) { return *reactors_[index]; }
    [[nodiscard]] std::size_t size() const noexcept { return count_; }

private:
    void run_reactors();

    WorkloadRun* run_;
    std::size_t count_;
    ferrule::ReactorOptions options_;
    ferrule::NetworkOptions network_;
    std::function<void(ferrule::Reactor&)> on_start_;
    std::function<void()> main_;
    std::function<void(ferrule::Reactor&)> on_end_;
    std::function<bool()> until_;
    std::vector<std::unique_ptr<ferrule::Reactor>> reactors_;
    std::size_t started_ = 0;
    std::size_t ended_ = 0;
    std::size_t outlasted_ = 0;
};

}  // namespace ferrule_test
