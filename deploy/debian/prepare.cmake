# Run by cpack on the tree that it packs: makes of an installation what Debian's policy asks for.
# Tried by: deploy/package-test, with lintian

set(tree "${CPACK_TEMPORARY_INSTALL_DIRECTORY}/usr/share")
set(doc "${tree}/doc/weir")

function(compress)
    execute_process(COMMAND gzip -9nf ${ARGN} COMMAND_ERROR_IS_FATAL ANY)
endfunction()

string(TIMESTAMP date "%a, %d %b %Y %H:%M:%S +0000" UTC)
file(WRITE "${doc}/changelog.Debian"
"weir (${CPACK_PACKAGE_VERSION}-${CPACK_DEBIAN_PACKAGE_RELEASE}) unstable; urgency=medium

  * Version ${CPACK_PACKAGE_VERSION}; what is new is in changelog.gz.

 -- ${CPACK_PACKAGE_CONTACT}  ${date}
")
file(RENAME "${doc}/CHANGELOG.md" "${doc}/changelog")
file(COPY_FILE "${CMAKE_CURRENT_LIST_DIR}/copyright" "${doc}/copyright")
file(REMOVE "${doc}/LICENSE") # the same as copyright
compress("${doc}/changelog" "${doc}/changelog.Debian" "${tree}/man/man1/weir.1"
    "${tree}/man/man5/weir.json.5")
file(GLOB_RECURSE files "${doc}/*" "${tree}/man/*")
file(CHMOD ${files} PERMISSIONS OWNER_READ OWNER_WRITE GROUP_READ WORLD_READ)
