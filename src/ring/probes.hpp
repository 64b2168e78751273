#pragma once

// USDT probes of the provider `ferrule`, for bpftrace, perf and SystemTap: docs/operations.md lists them. Each is an
// instruction that does nothing, and a note in the file that says where it is and where its arguments are. Without
// sys/sdt.h they are not there.
#if defined(FERRULE_PROBES)
#define SDT_USE_VARIADIC  // probes with any number of arguments
#include <sys/sdt.h>
#define FERRULE_PROBE(name, ...) STAP_PROBEV(ferrule, name, __VA_ARGS__)
#else
#define FERRULE_PROBE(name, ...) static_cast<void>(0)
#endif
