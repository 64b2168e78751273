# What `cmake --install` puts in place: the library, the headers, a CMake package (`find_package(ferrule)`), and a pkg-config file
# for each library.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

# Before 1.0 a minor version may change the ABI, so it is part of the library's name.
set_target_properties(ferrule ferrule_admin ferrule_http ferrule_http_parser PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})

install(TARGETS ferrule ferrule_admin ferrule_http ferrule_http_parser ferrule_sim EXPORT ferruleTargets)
if(TARGET ferrule_http_compression)
    # A component of the package, because it needs other packages.
    set_target_properties(ferrule_http_compression PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
    install(TARGETS ferrule_http_compression EXPORT ferruleHttpCompressionTargets)
endif()
install(FILES tools/gdb/ferrule.py DESTINATION ${CMAKE_INSTALL_DATADIR}/ferrule/gdb)
install(DIRECTORY include/ferrule DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.hpp")

set(package_directory ${CMAKE_INSTALL_LIBDIR}/cmake/ferrule)
install(EXPORT ferruleTargets NAMESPACE ferrule:: DESTINATION ${package_directory})
if(TARGET ferrule_http_compression)
    install(EXPORT ferruleHttpCompressionTargets NAMESPACE ferrule:: DESTINATION ${package_directory})
endif()
write_basic_package_version_file(ferruleConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_SOURCE_DIR}/cmake/ferruleConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/ferruleConfigVersion.cmake
    DESTINATION ${package_directory})

set(pkgconfig_definitions)
if(FERRULE_LIVE_TASKS)
    set(pkgconfig_definitions " -DFERRULE_LIVE_TASKS=1")
endif()
# The path back to the prefix, so that the installed tree can be moved.
file(RELATIVE_PATH pkgconfig_prefix /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
string(REGEX REPLACE "/$" "" pkgconfig_prefix ${pkgconfig_prefix})
set(pkgconfig_files ferrule.pc ferrule-admin.pc ferrule-http.pc ferrule-http-parser.pc ferrule-sim.pc)
if(TARGET ferrule_http_compression)
    list(APPEND pkgconfig_files ferrule-http-compression.pc)
    # Who links an archive links what is beneath it, too.
    set(pkgconfig_private .private)
    get_target_property(type ferrule_http_compression TYPE)
    if(type STREQUAL "STATIC_LIBRARY")
        set(pkgconfig_private)
    endif()
endif()
foreach(configuration IN LISTS pkgconfig_files)
    configure_file(${PROJECT_SOURCE_DIR}/cmake/${configuration}.in ${configuration} @ONLY)
    install(FILES ${CMAKE_CURRENT_BINARY_DIR}/${configuration} DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endforeach()
