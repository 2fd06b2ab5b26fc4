# What `cmake --install` installs, and `cpack -G DEB` packs. Included by CMakeLists.txt.
#
#   cmake --preset release && cmake --build build/release
#   cmake --install build/release                       below /usr/local; DESTDIR, --prefix
#   cpack -G DEB --config build/release/CPackConfig.cmake      ./weir_VERSION_ARCHITECTURE.deb
#
# Who packs for others says who they are: -D CPACK_PACKAGE_CONTACT='NAME <ADDRESS>'
# Tried by: tests/run deploy, deploy/package-test

include(GNUInstallDirs)

# weir(1) says what --help says. awk is on every machine that builds.
string(TIMESTAMP WEIR_MAN_DATE "%B %d, %Y" UTC)
add_custom_command(OUTPUT weir.1
    COMMAND weir --help > help.txt
    COMMAND awk -v "date=${WEIR_MAN_DATE}" -v version=${PROJECT_VERSION}
        -f ${CMAKE_SOURCE_DIR}/deploy/man/help.awk help.txt > weir.1
    DEPENDS weir deploy/man/help.awk
    VERBATIM)
add_custom_target(man ALL DEPENDS weir.1)

install(TARGETS weir)
install(FILES ${CMAKE_BINARY_DIR}/weir.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES deploy/man/weir.json.5 DESTINATION ${CMAKE_INSTALL_MANDIR}/man5)
install(FILES README.md SECURITY.md CHANGELOG.md LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(FILES deploy/weir.json DESTINATION ${CMAKE_INSTALL_DOCDIR}/examples)
install(CODE "
    set(WEIR_SOURCE_DIR [[${CMAKE_SOURCE_DIR}]])
    set(WEIR_BINARY_DIR [[${CMAKE_BINARY_DIR}]])
    set(WEIR_BINDIR [[${CMAKE_INSTALL_BINDIR}]])
    set(WEIR_SYSCONFDIR [[${CMAKE_INSTALL_SYSCONFDIR}]])")
install(SCRIPT deploy/install.cmake)

set(CPACK_PACKAGE_CONTACT "The Weir authors <weir@weir.invalid>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "HTTP proxy that queues requests per host")
set(CPACK_PACKAGE_DESCRIPTION
"Weir lets at most N requests run at once to each upstream host. The rest wait
in the order in which they came, and start as soon as a slot is free.
Programs send their requests through it, as through any HTTP proxy, and need
no semaphore, worker pool or queue of their own.
.
The package starts it as a service on loopback, 127.0.0.1:8080.")
set(CPACK_INSTALL_PREFIX /usr)
set(CPACK_SET_DESTDIR ON)
set(CPACK_STRIP_FILES ON)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE
    GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
set(CPACK_PRE_BUILD_SCRIPTS ${CMAKE_SOURCE_DIR}/deploy/debian/prepare.cmake)

set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RELEASE 1)
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS ca-certificates)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA
    ${CMAKE_SOURCE_DIR}/deploy/debian/conffiles ${CMAKE_SOURCE_DIR}/deploy/debian/postinst
    ${CMAKE_SOURCE_DIR}/deploy/debian/prerm ${CMAKE_SOURCE_DIR}/deploy/debian/postrm)
include(CPack)
