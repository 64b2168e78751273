#include "sim/workloads/audit.hpp"
#include "sim/workloads/reactor_program.hpp"

#include <chrono>
#include <exception>
#include <string>
#include <utility>

namespace ferrule_test {
namespace {

using namespace std::chrono_literals;
constexpr auto drain_timeout = 1h;

}  // namespace

ReactorProgram::ReactorProgram(WorkloadRun& run, std::size_t reactors, ferrule::ReactorOptions options,
                               ferrule::NetworkOptions network)
    : run_(&run), count_(reactors), options_(options), network_(network) {}

void ReactorProgram::start() {
    run_->program("reactors", [this] { run_reactors(); });
}

void ReactorProgram::run_reactors() {
    using ferrule::sim::Fault;
    ferrule::Kernel& kernel = run_->server_machine().kernel();
    std::vector<std::unique_ptr<ferrule::ThreadHandle>> threads;
    try {
        for (std::size_t index = 0; index < count_; ++index) {
            reactors_.push_back(
                std::make_unique<ferrule::Reactor>(static_cast<std::uint32_t>(index), options_, kernel));
        }
    } catch (const std::exception& error) {
        if (run_->fired(Fault::no_memory_at_setup) + run_->fired(Fault::no_memory_at_register) == 0)
            run_->find(std::string("a reactor could not be made: ") + error.what());
        reactors_.clear();
        return;
    }
    for (const auto& reactor : reactors_) {
        reactor->on_fault([this](ferrule::Reactor&, const std::exception_ptr& exception) {
            if (run_->fired(Fault::operation_fails) != 0) return;
            try {
                std::rethrow_exception(exception);
            } catch (const std::exception& error) {
                run_->find(std::string("an exception has left a task: ") + error.what());
            } catch (...) {
                run_->find("an exception has left a task");
            }
        });
        reactor->on_start([this](ferrule::Reactor& started) {
            Audit::attach(*run_, started, network_);
            ++started_;
            if (on_start_) on_start_(started);
        });
        threads.push_back(kernel.start_thread("reactor", [this, each = reactor.get()] {
            try {
                each->run();
            } catch (const std::exception& error) {
                if (run_->fired(Fault::no_memory_at_register) + run_->fired(Fault::operation_fails) == 0)
                    run_->find(std::string("a reactor has failed: ") + error.what());
            }
            ++ended_;
        }));
    }
    const auto started = [this] { return started_ == count_ || ended_ != 0; };
    if (!run_->wait_until(started, "the start of the reactors")) return;
    if (ended_ == 0) {
        if (main_) main_();
        const auto over = [this] { return until_() || ended_ > outlasted_; };
        if (!run_->wait_until(over, "what the program waits for")) return;
    }
    for (const auto& reactor : reactors_) {
        ferrule::Reactor& each = *reactor;
        if (!each.post([&each] { each.drain(drain_timeout); })) each.stop();
    }
    for (const auto& thread : threads) thread->join();
    if (on_end_) {
        for (const auto& reactor : reactors_) on_end_(*reactor);
    }
    reactors_.clear();
}

}  // namespace ferrule_test
