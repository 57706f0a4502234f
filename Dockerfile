# syntax=docker/dockerfile:1

# docker build -t tollgate .                   the proxy: no shell, not root
# docker build -t tollgate-test --target test . its tests

ARG RUST=1.95

FROM rust:${RUST}-slim-bookworm AS source
WORKDIR /src
COPY . .

FROM source AS build
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin tollgate && cp target/release/tollgate /tollgate

# The tests with pymongo need Python, those of shared limits a redis-server, and those that end a server curl. Debian's Node is too old for MongoDB's
# driver: the tests with it say that they are skipped.
FROM source AS test
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential curl openssl python3-venv redis-server \
    && rm -rf /var/lib/apt/lists/*
CMD ["cargo", "test", "--workspace", "--locked"]

FROM gcr.io/distroless/cc-debian12:nonroot AS runtime
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="Tollgate" \
      org.opencontainers.image.description="Proxy that understands what passes through it: MongoDB, TCP, HTTP and gRPC" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/tollgate-proxy/tollgate" \
      org.opencontainers.image.documentation="https://github.com/tollgate-proxy/tollgate/tree/main/docs" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=build /tollgate /usr/local/bin/tollgate
USER nonroot
# Drains. A stop must wait longer than drain.wait and drain_timeout: docker stop -t 40.
STOPSIGNAL SIGTERM
EXPOSE 27018 9901
# There is no curl in here. This asks the admin interface, and fails if it does not answer.
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s \
    CMD ["/usr/local/bin/tollgate", "top", "--once", "--interval", "100ms", "127.0.0.1:9901"]
ENTRYPOINT ["/usr/local/bin/tollgate"]
CMD ["run", "-c", "/etc/tollgate/tollgate.yaml"]
