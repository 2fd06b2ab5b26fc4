# Run by `cmake --install`, after CMakeLists.txt has set what it needs: the two files that depend on
# the prefix, which is known only now. Tried by: tests/run deploy, deploy/package-test
#
#   weir.service  with the paths of this installation
#   weir.json     the first configuration; one that is there already is kept

if(NOT IS_ABSOLUTE "${WEIR_SYSCONFDIR}")
    if(CMAKE_INSTALL_PREFIX MATCHES "^/(usr/?)?$")
        set(WEIR_SYSCONFDIR "/${WEIR_SYSCONFDIR}")
    else()
        set(WEIR_SYSCONFDIR "${CMAKE_INSTALL_PREFIX}/${WEIR_SYSCONFDIR}")
    endif()
endif()
if(NOT IS_ABSOLUTE "${WEIR_BINDIR}")
    set(WEIR_BINDIR "${CMAKE_INSTALL_PREFIX}/${WEIR_BINDIR}")
endif()

file(READ "${WEIR_SOURCE_DIR}/deploy/weir.service" unit)
string(REPLACE "/usr/bin/weir" "${WEIR_BINDIR}/weir" unit "${unit}")
string(REPLACE "/etc/weir/" "${WEIR_SYSCONFDIR}/weir/" unit "${unit}")
file(WRITE "${WEIR_BINARY_DIR}/weir.service" "${unit}")
file(INSTALL DESTINATION "${CMAKE_INSTALL_PREFIX}/lib/systemd/system" TYPE FILE
    FILES "${WEIR_BINARY_DIR}/weir.service")

if(NOT EXISTS "$ENV{DESTDIR}${WEIR_SYSCONFDIR}/weir/weir.json")
    file(INSTALL DESTINATION "${WEIR_SYSCONFDIR}/weir" TYPE FILE
        FILES "${WEIR_SOURCE_DIR}/deploy/weir.json")
endif()
