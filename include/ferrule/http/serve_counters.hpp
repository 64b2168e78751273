#pragma once

#include <ferrule/reactor/counter.hpp>
#include <ferrule/reactor/metric.hpp>

#include <array>
#include <string_view>

namespace ferrule::inline v0::http {

/// What serving counts, on each reactor, in its MetricRegistry. Any thread may read.
struct ServeCounters {
    Counter connections;    ///< connections that are served now
    Counter handlers;       ///< handlers that wait now
    Counter responses_1xx;  ///< responses, by their class
    Counter responses_2xx;
    Counter responses_3xx;
    Counter responses_4xx;
    Counter responses_5xx;
    Counter refusals_400;  ///< of these, what was refused without a handler's doing, by the status
    Counter refusals_408;
    Counter refusals_411;
    Counter refusals_413;
    Counter refusals_414;
    Counter refusals_417;
    Counter refusals_431;
    Counter refusals_501;
    Counter refusals_503;
    Counter refusals_505;
    Counter failures;          ///< handlers that threw, or said nothing
    Counter aborts;            ///< responses that could not be ended in order
    Counter upgrades;          ///< connections that were turned over to another protocol
    Counter body_bytes;        ///< of requests' bodies
    Counter idle_timeouts;     ///< connections that were closed between requests
    Counter handler_timeouts;  ///< handlers that took too long

    /// What they are called outside.
    static constexpr auto metrics() {
        using Row = MetricOf<ServeCounters>;
        using Its = ServeCounters;
        constexpr auto none = MetricUnit::none;
        constexpr std::string_view by_class = "Responses, by the class of their status.";
        constexpr std::string_view by_status = "Requests that were refused before or instead of their handler.";
        return std::array{
            Row{&Its::connections, {"ferrule_http_connections", "Connections that are served as HTTP/1."}},
            Row{&Its::handlers, {"ferrule_http_handlers_waiting", "Handlers that wait for something."}},
            Row{&Its::responses_1xx, {"ferrule_http_responses_total", by_class, none, {"class", "1xx"}}},
            Row{&Its::responses_2xx, {"ferrule_http_responses_total", by_class, none, {"class", "2xx"}}},
            Row{&Its::responses_3xx, {"ferrule_http_responses_total", by_class, none, {"class", "3xx"}}},
            Row{&Its::responses_4xx, {"ferrule_http_responses_total", by_class, none, {"class", "4xx"}}},
            Row{&Its::responses_5xx, {"ferrule_http_responses_total", by_class, none, {"class", "5xx"}}},
            Row{&Its::refusals_400, {"ferrule_http_refusals_total", by_status, none, {"status", "400"}}},
            Row{&Its::refusals_408, {"ferrule_http_refusals_total", by_status, none, {"status", "408"}}},
            Row{&Its::refusals_411, {"ferrule_http_refusals_total", by_status, none, {"status", "411"}}},
            Row{&Its::refusals_413, {"ferrule_http_refusals_total", by_status, none, {"status", "413"}}},
            Row{&Its::refusals_414, {"ferrule_http_refusals_total", by_status, none, {"status", "414"}}},
            Row{&Its::refusals_417, {"ferrule_http_refusals_total", by_status, none, {"status", "417"}}},
            Row{&Its::refusals_431, {"ferrule_http_refusals_total", by_status, none, {"status", "431"}}},
            Row{&Its::refusals_501, {"ferrule_http_refusals_total", by_status, none, {"status", "501"}}},
            Row{&Its::refusals_503, {"ferrule_http_refusals_total", by_status, none, {"status", "503"}}},
            Row{&Its::refusals_505, {"ferrule_http_refusals_total", by_status, none, {"status", "505"}}},
            Row{&Its::failures, {"ferrule_http_handler_failures_total", "Handlers that threw, or did not answer."}},
            Row{&Its::aborts, {"ferrule_http_aborts_total", "Responses that were cut off by a reset."}},
            Row{&Its::upgrades, {"ferrule_http_upgrades_total", "Connections that went on in another protocol."}},
            Row{&Its::body_bytes, {"ferrule_http_request_body_bytes_total", "Of requests' bodies.", MetricUnit::bytes}},
            Row{&Its::idle_timeouts,
                {"ferrule_http_idle_timeouts_total", "Connections that were closed because no request came."}},
            Row{&Its::handler_timeouts, {"ferrule_http_handler_timeouts_total", "Handlers that took too long."}},
        };
    }
};

}  // namespace ferrule::inline v0::http
