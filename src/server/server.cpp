#include <ferrule/server/server.hpp>

#include "server/engine.hpp"

namespace ferrule::inline v0 {

Server::Server(ServerOptions options, Kernel& kernel) {
    validate(options);
    engine_ = std::make_unique<Engine>(std::move(options), kernel);
}

Server::~Server() = default;

void Server::on_connection(ConnectionHandler handler) {
    engine_->add_first_port(std::move(handler));
}

void Server::listen(PortOptions port, ConnectionHandler handler) {
    validate(port);
    engine_->add_port(std::move(port), std::move(handler));
}

void Server::on_start(std::function<void(Reactor&)> function) {
    engine_->start_hooks.push_back(std::move(function));
}

void Server::on_fault(std::function<void(Reactor&, std::exception_ptr)> function) {
    engine_->fault_hook = std::move(function);
}

void Server::on_log(Log::Function function) {
    engine_->log_function = std::move(function);
}

void Server::on_stall(std::function<void(const StallReport&)> function) {
    engine_->stall_hook = std::move(function);
}

void Server::on_listening(std::function<void()> function) {
    engine_->listening_hooks.push_back(std::move(function));
}

void Server::on_reload(std::function<void(Reload&)> function) {
    engine_->reload_hooks.push_back(std::move(function));
}

void Server::on_drain_progress(std::function<void(const DrainProgress&)> function) {
    engine_->drain_hooks.push_back(std::move(function));
}

int Server::run() {
    return engine_->run();
}

void Server::stop() {
    engine_->stop();
}

void Server::reload() {
    engine_->reload();
}

std::size_t Server::reactors() const {
    return engine_->reactor_count();
}

std::uint16_t Server::port() const {
    return engine_->port();
}

std::vector<Address> Server::addresses() const {
    return engine_->addresses();
}

std::string Server::describe_live_tasks() const {
    return engine_->describe_live_tasks();
}

ServerCounters Server::counters() const {
    return engine_->counters();
}

}  // namespace ferrule::inline v0
