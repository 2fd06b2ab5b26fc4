# The image of a sidecar: Weir, the shared libraries that it needs, the roots of trust, one user.
#
#   docker build --pull -t weir .
#
# No shell and no package manager are in it, and nothing is written: it runs on a read-only root,
# without capabilities, as a numeric user. deploy/README.md says how to use it.
# Validated by: deploy/image-test, which builds it and runs it; it needs no BuildKit.

FROM docker.io/library/debian:trixie-slim AS build
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
WORKDIR /weir

# From here on each step is repeated only where what it copies has changed: first the packages.
COPY deploy/steps.sh deploy/
RUN source deploy/steps.sh && steps_install "${STEPS_BUILD_PACKAGES[@]}" libcmocka-dev

COPY CMakeLists.txt CMakePresets.json ./
COPY deploy/package.cmake deploy/
COPY deploy/man/help.awk deploy/man/
COPY limiter limiter
COPY api api
COPY server server
RUN cmake --preset release && cmake --build build/release

# The tests link the very objects that are shipped. What needs Python is for tests/run.
COPY tests tests
RUN cmake --preset release -D BUILD_TESTING=ON -D PYTEST=none && cmake --build build/release && \
    ctest --test-dir build/release --output-on-failure --no-tests=error -R '^(unit|model|fuzz)_'

# The root of the image: every library where the loader looks for it, under the name by which it
# is asked for.
RUN mkdir -p /image/etc/ssl/certs /image/etc/weir && \
    ldd build/release/weir | grep -o '/[^ ]*' | xargs cp --dereference --parents -t /image && \
    cp --dereference /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ && \
    echo 'weir:x:65532:65532::/:/usr/bin/weir' >/image/etc/passwd && \
    echo 'weir:x:65532:' >/image/etc/group && \
    echo '{}' >/image/etc/weir/weir.json && \
    install -D --strip build/release/weir /binary/usr/bin/weir && \
    cp -a /binary/. /image/ && chroot /image /usr/bin/weir --config /etc/weir/weir.json --check-config && \
    rm -r /image/usr/bin

FROM scratch
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="Weir" \
      org.opencontainers.image.description="HTTP proxy that queues requests per upstream host" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}"

# Two layers, so that a new Weir on the same Debian is a small one.
COPY --from=build /image/ /
COPY --from=build /binary/ /

# A file that is mounted here is the configuration; without one, it holds the defaults.
ENV WEIR_CONFIG=/etc/weir/weir.json
USER 65532:65532
EXPOSE 8080 9901
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=2s CMD ["/usr/bin/weir", "check"]
ENTRYPOINT ["/usr/bin/weir"]
