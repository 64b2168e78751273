#include <ferrule/admin/metric_text.hpp>

#include "admin/admin_core.hpp"

#include <algorithm>
#include <exception>
#include <utility>

namespace ferrule::inline v0 {

namespace {

/// Of what a reactor contributes to a page.
constexpr std::size_t contribution_bytes_max = 1u << 20;

/// Why a reactor has not answered.
std::string_view reason_of(SurveyAnswer::State state) noexcept {
    switch (state) {
        case SurveyAnswer::State::missing:
            return "does not answer";
        case SurveyAnswer::State::answered:
            return "ok";
        case SurveyAnswer::State::failed:
            return "failed";
        case SurveyAnswer::State::refused:
            return "has a full mailbox";
        case SurveyAnswer::State::ended:
            return "has ended";
    }
    return "";
}

bool drains(const WatchedReactor& reactor) {
    return reactor.metrics->value("ferrule_draining") != 0;
}

AdminAnswer health_of(const std::vector<std::shared_ptr<WatchedReactor>>& reactors,
                      const std::vector<SurveyAnswer>& answers) {
    AdminAnswer answer;
    for (std::size_t index = 0; index < reactors.size(); ++index) {
        const SurveyAnswer::State state = answers[index].state;
        // The end of a drain is what was asked for.
        const bool well =
            state == SurveyAnswer::State::answered || (state == SurveyAnswer::State::ended && drains(*reactors[index]));
        if (!well) answer.status = 503;
        answer.body += reactors[index]->name() + ": " + std::string(reason_of(state)) + '\n';
    }
    if (reactors.empty()) answer.body = "ok\n";
    return answer;
}

/// A line for what does not hold; nothing where it does.
std::string fault_of_check(const std::string& name, const std::function<std::expected<void, std::string>()>& check) {
    try {
        const auto held = check();
        return held ? std::string() : name + ": " + held.error() + '\n';
    } catch (const std::exception& failure) {
        return name + ": " + failure.what() + '\n';
    } catch (...) {
        return name + ": an exception of unknown type\n";
    }
}

/// Says of all of them whose they are.
void add_server_label(std::vector<MetricSample>& samples, const std::string& server) {
    if (server.empty()) return;
    for (MetricSample& sample : samples) {
        auto labels = std::make_shared<MetricLabels>(*sample.labels);
        labels->insert(labels->begin(), {"server", server});
        sample.labels = std::move(labels);
    }
}

void append(std::vector<MetricSample>& samples, std::vector<MetricSample> more) {
    samples.insert(samples.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
}

}  // namespace

bool AdminPort::Core::misdirected(const RequestHead& request) const {
    return only_addresses_ && !names_an_address(request.host);
}

Task<AdminAnswer> AdminPort::Core::answer(Reactor& reactor, const RequestHead& request) {
    AdminAnswer answer;
    if (misdirected(request)) {
        answer.status = 421;
        answer.body = "this port answers for addresses and localhost only\n";
        co_return answer;
    }
    const auto found = pages_.find(request.path);
    if (found == pages_.end()) {
        answer.status = 404;
        answer.body = "there is no such page; / lists what there is\n";
        co_return answer;
    }
    const Page& page = found->second;
    if (page.built_in != nullptr) {
        auto making = (this->*page.built_in)(reactor);
        co_return co_await std::move(making);
    }
    if (page.reactor_function) {
        auto making = reactor_page(reactor, page.reactor_function);
        co_return co_await std::move(making);
    }
    answer.content_type = page.content_type;
    answer.body = page.function(request.query);
    co_return answer;
}

Task<AdminAnswer> AdminPort::Core::index_page(Reactor&) {
    AdminAnswer answer;
    for (const auto& [path, page] : pages_) answer.body += path + '\n';
    co_return answer;
}

// ---- metrics ----

Task<std::vector<MetricSample>> AdminPort::Core::read_metrics(Reactor& reactor) {
    auto reading = process_.read(reactor);
    std::vector<MetricSample> samples = co_await std::move(reading);
    for (const auto& watched : reactors()) {
        std::vector<MetricSample> its = watched->metrics->read();
        add_server_label(its, watched->server);
        append(samples, std::move(its));
    }
    const std::lock_guard lock(mutex_);
    for (const auto& registry : metrics_) append(samples, registry->read());
    co_return samples;
}

Task<AdminAnswer> AdminPort::Core::metrics_page(Reactor& reactor) {
    auto reading = read_metrics(reactor);
    std::vector<MetricSample> samples = co_await std::move(reading);
    AdminAnswer answer;
    answer.content_type = prometheus_text_type;
    answer.body = to_prometheus_text(group_metrics(std::move(samples)));
    co_return answer;
}

Task<AdminAnswer> AdminPort::Core::metrics_json_page(Reactor& reactor) {
    auto reading = read_metrics(reactor);
    std::vector<MetricSample> samples = co_await std::move(reading);
    AdminAnswer answer;
    answer.content_type = "application/json";
    answer.body = to_json_text(group_metrics(std::move(samples)));
    co_return answer;
}

// ---- health ----

Task<AdminAnswer> AdminPort::Core::health_page(Reactor& reactor) {
    const auto watched = reactors();
    SurveyFunction nothing = [](Reactor&) { return std::string(); };
    auto asking = ask_reactors(reactor, watched, std::move(nothing), options_.patience);
    const auto answers = co_await std::move(asking);
    co_return health_of(watched, answers);
}

std::string AdminPort::Core::why_not_ready() {
    std::string reasons;
    const auto watched = reactors();
    for (const auto& reactor : watched) {
        if (drains(*reactor)) {
            reasons += reactor->name() + ": drains\n";
        } else if (reactor->inbox->closed()) {
            reasons += reactor->name() + ": has ended\n";
        }
    }
    std::vector<std::shared_ptr<WatchedServer>> servers;
    {
        const std::lock_guard lock(mutex_);
        servers = servers_;
    }
    for (const auto& server : servers) {
        const bool listens =
            server->listening && std::any_of(watched.begin(), watched.end(), [&](const auto& reactor) {
                return reactor->owner == server.get() && reactor->metrics->value("ferrule_listeners") != 0;
            });
        if (!listens) reasons += (server->name.empty() ? "server" : server->name) + ": does not listen\n";
    }
    for (const Check& check : checks_) reasons += fault_of_check(check.name, check.function);
    return reasons;
}

Task<AdminAnswer> AdminPort::Core::ready_page(Reactor&) {
    AdminAnswer answer;
    answer.body = why_not_ready();
    if (answer.body.empty()) {
        answer.body = "ok\n";
    } else {
        answer.status = 503;
    }
    co_return answer;
}

// ---- what reactors say ----

Task<AdminAnswer> AdminPort::Core::reactor_page(Reactor& reactor, SurveyFunction function) {
    const auto watched = reactors();
    auto asking = ask_reactors(reactor, watched, std::move(function), options_.patience);
    const auto answers = co_await std::move(asking);
    AdminAnswer answer;
    for (std::size_t index = 0; index < watched.size(); ++index) {
        const SurveyAnswer& its = answers[index];
        answer.body += watched[index]->name();
        if (its.state != SurveyAnswer::State::answered) {
            answer.body += ": " + std::string(reason_of(its.state)) + (its.text.empty() ? "" : ": ") + its.text + '\n';
            continue;
        }
        const bool cut = its.text.size() > contribution_bytes_max;
        answer.body += ":\n" + its.text.substr(0, contribution_bytes_max);
        if (!its.text.ends_with('\n') || cut) answer.body += '\n';
        if (cut) answer.body += "(cut after 1 MiB)\n";
    }
    co_return answer;
}

}  // namespace ferrule::inline v0
