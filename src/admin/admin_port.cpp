#include <ferrule/admin/admin_port.hpp>

#include "admin/admin_core.hpp"

#include <utility>

namespace ferrule::inline v0 {

AdminPort::AdminPort(AdminOptions options, Kernel& kernel)
    : core_(std::make_shared<Core>(std::move(options), kernel)) {}

AdminPort::~AdminPort() {
    core_->stop();
}

void AdminPort::watch(Server& server, std::string name) {
    const std::shared_ptr<WatchedServer> watched = core_->add_server(name);
    server.on_start([core = core_, name = std::move(name), watched](Reactor& reactor) {
        core->add_reactor(reactor, name, watched.get());
    });
    server.on_listening([watched] { watched->listening = true; });
}

void AdminPort::watch(Reactor& reactor, std::string name) {
    core_->add_reactor(reactor, std::move(name));
}

void AdminPort::watch(std::shared_ptr<MetricRegistry> metrics) {
    core_->add_metrics(std::move(metrics));
}

void AdminPort::page(std::string path, std::string content_type,
                     std::function<std::string(std::string_view query)> function) {
    core_->add_page(std::move(path), std::move(content_type), std::move(function));
}

void AdminPort::reactor_page(std::string path, std::function<std::string(Reactor&)> function) {
    core_->add_reactor_page(std::move(path), std::move(function));
}

void AdminPort::check(std::string name, std::function<std::expected<void, std::string>()> function) {
    core_->add_check(std::move(name), std::move(function));
}

void AdminPort::start() {
    core_->start();
}

void AdminPort::stop() {
    core_->stop();
}

Address AdminPort::address() const {
    return core_->address();
}

}  // namespace ferrule::inline v0
