#pragma once

/// The version of the library that these headers belong to, by semantic versioning.
#define FERRULE_VERSION_MAJOR 0
#define FERRULE_VERSION_MINOR 1
#define FERRULE_VERSION_PATCH 0
#define FERRULE_VERSION_STRING "0.1.0"

/// Marks what the compiled library exports; everything else has hidden visibility.
#define FERRULE_EXPORT [[gnu::visibility("default")]]

#if !defined(__cpp_exceptions)
#error "Ferrule needs C++ exceptions: they report misuse and what cannot start. Build without -fno-exceptions."
#endif
#if !defined(__linux__)
#error "Ferrule is for Linux: it stands on io_uring."
#endif
