#include "sim/workloads/audit.hpp"
#include "sim/workloads/server_program.hpp"

#include <csignal>
#include <exception>
#include <utility>

namespace ferrule_test {
namespace {

std::string what_of(const std::exception_ptr& exception) {
    try {
        std::rethrow_exception(exception);
    } catch (const std::exception& error) {
        return error.what();
    } catch (...) {
        return "an exception of unknown type";
    }
}

}  // namespace

void ServerProgram::client(std::string name, std::size_t machine, std::function<void()> program) {
    ++clients_;
    run_->client(std::move(name), machine, [this, program = std::move(program)] {
        if (!run_->wait_until([this] { return bound_ || ended_; }, "a server that listens")) return;
        if (!ended_) program();
        if (--clients_ == 0 && !stopped_) stop();
    });
}

void ServerProgram::start() {
    // A signal would end the peers on the same machine, too.
    stop_by_signal_ = run_->random().one_in(2) && !run_->has_one_machine();
    run_->program("server", [this] { serve(); });
    // Without clients nobody would stop it.
    if (clients_ == 0) client("nobody", 0, [] {});
}

ferrule::Address ServerProgram::address() {
    if (bound_->family() == ferrule::AddressFamily::unix_domain) return *bound_;
    return run_->server_address(bound_->port());
}

void ServerProgram::stop() {
    const bool again = std::exchange(stopped_, true);
    if (ended_ || server_ == nullptr) return;
    if (stop_by_signal_ && !again) {
        run_->server_machine().signal(SIGTERM);
    } else {
        run_->program("stop", [this] {
            if (server_ != nullptr) server_->stop();
        });
    }
}

void ServerProgram::serve() {
    {
        ferrule::Server server{options_, run_->server_machine().kernel()};
        server_ = &server;
        server.on_fault([this](ferrule::Reactor& reactor, std::exception_ptr exception) {
            if (may_fault_ || run_->fired(ferrule::sim::Fault::operation_fails) != 0) return;
            run_->find("reactor " + std::to_string(reactor.id()) +
                       ": a handler or the reactor has failed: " + what_of(exception));
        });
        server.on_start([this](ferrule::Reactor& reactor) {
            Audit::attach(*run_, reactor, options_.network);
            if (on_start_) on_start_(reactor);
        });
        if (port_) {
            server.listen(*port_, handler_);
        } else {
            server.on_connection(handler_);
        }
        server.on_listening([this, &server] { bound_ = server.addresses().front(); });
        try {
            const int status = server.run();
            // A reactor that fails takes its connections with it, and says so.
            if (status != 0 && run_->fired(ferrule::sim::Fault::operation_fails) == 0)
                run_->find("Server::run has returned " + std::to_string(status));
        } catch (const std::exception& error) {
            using ferrule::sim::Fault;
            const std::uint64_t reasons = run_->fired(Fault::no_memory_at_setup) +
                                          run_->fired(Fault::no_memory_at_register) +
                                          run_->fired(Fault::operation_fails);
            if (reasons == 0) run_->find(std::string("Server::run has thrown: ") + error.what());
        }
        server_ = nullptr;
        check(server.counters());
    }
    ended_ = true;
    if (on_end_) on_end_();
}

void ServerProgram::check(const ferrule::ServerCounters& counted) const {
    run_->expect(counted.connections == 0, "the server's counters say that connections are open after its end");
    run_->expect(counted.reactors == 0, "the server's counters say that reactors run after its end");
    run_->expect(counted.closed <= counted.accepted + run_->connections_opened,
                 "the server has closed more connections than it had");
}

}  // namespace ferrule_test
