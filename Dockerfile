# One image for both roles; docker-compose.yml says which is which.
#
#   docker build -t cloister .                              builds everything
#   docker build -t cloister --target runtime .             takes dist/cloister, built outside
#   docker build -t cloister --build-arg TOOLS="gcc g++ libc6-dev nodejs" .   with what jobs need
ARG BASE=debian:trixie-slim
ARG RUST=rust:1.95-slim-trixie

FROM ${BASE} AS base
# Jobs see this image's /usr. A shell and coreutils are there; these are added.
ARG TOOLS="python3"
RUN if [ -n "$TOOLS" ]; then \
        apt-get update \
        && apt-get install --yes --no-install-recommends $TOOLS \
        && rm -rf /var/lib/apt/lists/* /var/log/*; \
    fi
# A new volume takes its owner from the folder where it is mounted: the user that services become.
RUN install -d -o 61840 -g 61840 -m 0750 \
    /var/lib/cloister/jobs /var/lib/cloister/clients /var/lib/cloister/runners /var/lib/cloister/spool
ENTRYPOINT ["/usr/local/bin/cloister"]
CMD ["--help"]

FROM base AS runtime
COPY dist/cloister /usr/local/bin/cloister

FROM ${RUST} AS build
WORKDIR /src
COPY . .
# Dependencies, as sources and compiled, are kept apart from the code: another build compiles what changed.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --package cloister \
    && cp target/release/cloister /cloister

FROM base
COPY --from=build /cloister /usr/local/bin/cloister
