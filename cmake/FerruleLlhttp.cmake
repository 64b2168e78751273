# llhttp, from the C sources of Debian's node-llhttp, as it checks most strictly: to be compared with, never a part of Ferrule. Where it is not
# installed there is no target `llhttp`.
if(NOT TARGET llhttp AND NOT CMAKE_CROSSCOMPILING)
    find_path(FERRULE_LLHTTP_SOURCES llhttp.c PATHS /usr/share/llhttp DOC "llhttp's C sources")
    find_path(FERRULE_LLHTTP_INCLUDE llhttp.h PATHS /usr/share/include/llhttp DOC "llhttp's header")
    mark_as_advanced(FERRULE_LLHTTP_SOURCES FERRULE_LLHTTP_INCLUDE)
    if(FERRULE_LLHTTP_SOURCES AND FERRULE_LLHTTP_INCLUDE)
        enable_language(C)
        add_library(llhttp STATIC EXCLUDE_FROM_ALL
            ${FERRULE_LLHTTP_SOURCES}/api.c ${FERRULE_LLHTTP_SOURCES}/http.c ${FERRULE_LLHTTP_SOURCES}/llhttp.c)
        target_include_directories(llhttp SYSTEM PUBLIC ${FERRULE_LLHTTP_INCLUDE})
        target_compile_definitions(llhttp PUBLIC LLHTTP_STRICT_MODE=1)
        target_compile_options(llhttp PRIVATE -O2 -w)
    endif()
endif()
