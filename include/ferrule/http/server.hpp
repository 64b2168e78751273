#pragma once

// Everything of the server layer.
#include <ferrule/http/chunked_decoder.hpp>
#include <ferrule/http/request.hpp>
#include <ferrule/http/response.hpp>
#include <ferrule/http/router.hpp>
#include <ferrule/http/serve.hpp>
#include <ferrule/http/serve_counters.hpp>
#include <ferrule/http/serve_options.hpp>
