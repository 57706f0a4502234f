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
COPY --from=build /tollgate /usr/local/bin/tollgate
USER nonroot
EXPOSE 27018 9901
# There is no curl in here. This asks the admin interface, and fails if it does not answer.
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s \
    CMD ["/usr/local/bin/tollgate", "top", "--once", "--interval", "100ms", "127.0.0.1:9901"]
ENTRYPOINT ["/usr/local/bin/tollgate"]
CMD ["run", "-c", "/etc/tollgate/tollgate.yaml"]
