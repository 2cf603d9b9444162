#!/bin/bash
# Start a real Burla cluster on this machine: the head, the node service and the workers of the `burla` wheel, unchanged,
# in the layout that Burla's developers use. The head is a process, a node is a privileged container with its own Docker
# engine, a worker is a container in a node. No cloud, account or image registry is needed. Parts that run already are
# not restarted.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/settings.sh"
case $PYTHON in
    3.11) worker_suite=bookworm ;;
    3.13) worker_suite=trixie ;;
    *) echo "BURLA_CLUSTER_PYTHON=$PYTHON: unsupported version. Use 3.11 or 3.13, which Debian has." >&2; exit 2 ;;
esac

say() { echo "[$SECONDS s] $*"; }

api() { curl --silent --show-error --fail --max-time 20 -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' "$@"; }

wait_for() { # wait_for <tries, three per second> <command...>
    local tries=$1
    shift
    for ((; tries > 0; tries--)); do
        "$@" > /dev/null 2>&1 && return
        sleep 0.3
    done
    return 1
}

is_head_ready() { api "$URL/version" > /dev/null 2>&1; }

has_nodes() { # has_nodes <count>: at least <count> nodes are ready or busy
    local state busy
    state=$(api "$URL/v1/cluster/state" 2> /dev/null) || return 1
    busy=$(grep -o '"running_count":[0-9]*' <<< "$state" | cut -d: -f2) || busy=0
    [ $(($(grep -o '"status":"READY"' <<< "$state" | wc -l) + busy)) -ge "$1" ]
}

start_daemon() { # start_daemon <name> <command...>: log to $STATE/<name>.log, write the process id to $STATE/<name>.pid
    (
        # A daemon that inherits a descriptor of the caller, as in `flock FILE make cluster`, would hold the lock.
        for descriptor in /proc/self/fd/*; do
            descriptor=${descriptor##*/}
            ((descriptor < 3)) || exec {descriptor}>&-
        done
        exec setsid nohup "${@:2}"
    ) > "$STATE/$1.log" 2>&1 < /dev/null &
    echo $! > "$STATE/$1.pid"
}

install_packages() {
    local missing=()
    docker version > /dev/null 2>&1 || command -v dockerd > /dev/null || missing+=(docker.io iptables)
    command -v mmdebstrap > /dev/null || missing+=(mmdebstrap debian-archive-keyring)
    command -v curl > /dev/null || missing+=(curl)
    [ ${#missing[@]} -gt 0 ] || return 0
    say "Installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"; } > "$STATE/apt.log" 2>&1 ||
        { tail "$STATE/apt.log" >&2; exit 1; }
}

start_docker() {
    docker version > /dev/null 2>&1 && return
    say "Starting Docker"
    local options=(--data-root "$STATE/docker")
    # Bit 24 is CAP_SYS_RESOURCE, which root does not have on some virtual machines.
    ((0x$(awk '/^CapBnd/ {print $2}' /proc/self/status) >> 24 & 1)) || {
        install -m 755 "$here/runc_wrapper.sh" "$STATE" # Docker needs it also after this checkout is deleted
        options+=(--add-runtime "kit=$STATE/runc_wrapper.sh" --default-runtime kit)
    }
    start_daemon dockerd dockerd "${options[@]}"
    wait_for 100 docker version || { tail "$STATE/dockerd.log" >&2; exit 1; }
}

install_burla() {
    [ -e "$SOURCES/done" ] && return
    say "Installing burla $BURLA for the head"
    uv venv --quiet --clear --python '>=3.11' "$HEAD"
    uv pip install --quiet --python "$HEAD" "burla==$BURLA"
    local packages
    packages=$("$HEAD/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
    # A node mounts these directories of Burla's repository. The wheel contains them for nodes in a cloud.
    mkdir -p "$SOURCES"/{node_service/src,client/src,_image_seed,_shared_workspace,_node_auth}
    cp -r "$packages/main_service/_node_source_files/." "$SOURCES"
    cp -r "$packages/node_service" "$SOURCES/node_service/src"
    cp -r "$packages/burla" "$SOURCES/client/src"
    touch "$SOURCES/done"
}

refresh_sources() { # files that may change between two starts
    install -m 755 "$here/node_entrypoint.sh" "$SOURCES/node_service/local_dev_entrypoint.sh"
    cp "${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}" "$SOURCES/_image_seed/ca.crt"
}

build_worker() {
    # A worker's shell reads cgroup v2's memory.events with awk. On cgroup v1, awk's error message would become the
    # worker's first output, so replace awk by a function that prints nothing.
    mmdebstrap --quiet --variant=apt --include=python3,ca-certificates \
        --customize-hook='ln -s python3 "$1/usr/bin/python"' \
        --customize-hook='echo "[ -e /sys/fs/cgroup/memory.events ] || awk() { :; }" > "$1/etc/profile.d/cgroup-v1.sh"' \
        "$worker_suite" - | docker import - "$WORKER_IMAGE" > /dev/null
    docker save "$WORKER_IMAGE" -o "$1.part"
    mv "$1.part" "$1"
}

build_node() { # from Debian trixie: the node service requires Python 3.13
    uv pip install --quiet --python-version 3.13 --python-platform x86_64-manylinux_2_28 \
        --target "$STATE/site" -r "$SOURCES/node_service/pyproject.toml" uv
    mmdebstrap --quiet --variant=apt \
        --include=python3,ca-certificates,docker.io,docker-cli,iptables,procps,dnsmasq-base \
        --customize-hook='mkdir "$1/opt/burla"' \
        --customize-hook="cp -r '$STATE/site' \"\$1/opt/burla/site\"" \
        --customize-hook="install -m 755 '$here/docker_wrapper.sh' \"\$1/usr/local/bin/docker\"" \
        trixie - | docker import \
        --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
        --change "ENV BURLA_PRIVATE=True BURLA_VERSION=$BURLA WORKER_PYTHON=$PYTHON" \
        - "$NODE_IMAGE" > /dev/null
    rm -r "$STATE/site"
}

build_images() {
    local worker=$SOURCES/_image_seed/worker-$PYTHON.tar builds=() build
    if [ ! -e "$worker" ]; then
        say "Building the workers' image: Debian $worker_suite with Python $PYTHON"
        build_worker "$worker" & builds+=($!)
    fi
    if ! docker image inspect "$NODE_IMAGE" > /dev/null 2>&1; then
        say "Building the nodes' image"
        build_node & builds+=($!)
    fi
    for build in "${builds[@]}"; do wait "$build"; done
}

start_head() {
    docker network inspect "burla-$NAME" > /dev/null 2>&1 || docker network create "burla-$NAME" > /dev/null
    is_head_ready && return
    say "Starting the head on $URL"
    (
        cd "$STATE"
        # BURLA_PRIVATE: never contact Burla's servers.
        export IN_LOCAL_DEV_MODE=True BURLA_PRIVATE=True DISABLE_BURLA_TELEMETRY=True PORT HOST_PWD=$SOURCES
        export PROJECT_ID=local CLUSTER_ID_TOKEN=$TOKEN HISTORY_DB_PATH=$STATE/history.db BURLA_NODE_IMAGE=$NODE_IMAGE
        export BURLA_CLUSTER_NAME=$NAME LOCAL_DEV_NETWORK=burla-$NAME LOCAL_DEV_NODE_PORT_BASE=$NODE_PORTS
        # The head requires a cloud. AWS's library loads without credentials, and nothing calls it.
        export CLOUD_PROVIDER=aws AWS_REGION=us-east-1 AWS_EC2_METADATA_DISABLED=true
        start_daemon head "$HEAD/bin/python" -m uvicorn main_service:app --host 0.0.0.0 --port "$PORT" \
            --timeout-keep-alive 600
    )
    wait_for 100 is_head_ready || { tail "$STATE/head.log" >&2; exit 1; }
}

start_nodes() { # send the requests of the dashboard's settings page and start button
    if [ -n "$(docker ps --quiet --filter "label=burla-cluster-member=$NAME")" ]; then
        wait_for 60 has_nodes 1 && return
    fi
    say "Starting $NODES node(s)"
    api "$URL/v1/settings" --data "{\"containerImage\": \"$WORKER_IMAGE\"}" > /dev/null
    api -X POST "$URL/v1/local-dev/node-quantity/$NODES" > /dev/null
    api -X POST "$URL/v1/cluster/restart" > /dev/null
    wait_for 800 has_nodes "$NODES" ||
        { tail "$STATE/head.log" >&2; say "No node is ready. See \`docker logs node_<id>\`, and the end of $STATE/head.log above."; exit 1; }
}

write_login() { # the file that `burla login` writes, and the environment in which Burla's client reads it
    mkdir -p "$STATE/config/burla"
    (
        umask 077
        printf '{"email": "developer@example.com", "auth_token": "%s", "project_id": "local", "cluster_dashboard_url": "%s"}\n' \
            "$TOKEN" "$URL" > "$STATE/config/burla/burla_credentials.json"
    )
    cat > "$STATE/client.env" <<-ENV
		export BURLA_CLUSTER_DASHBOARD_URL=$URL
		export XDG_CONFIG_HOME=$STATE/config
		export DISABLE_BURLA_TELEMETRY=True
		unset BURLA_PRIVATE
	ENV
}

mkdir -p "$STATE"
install_packages
start_docker
install_burla
refresh_sources
build_images
start_head
start_nodes
write_login
say "Burla $BURLA runs: $URL"
