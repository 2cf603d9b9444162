#!/bin/bash
# Start a node: the entrypoint of the privileged container that the head starts. It replaces a file that the burla wheel
# does not contain. Like the start-up script of a cloud machine, it starts a Docker engine, loads the workers' image,
# installs uv and burla for the workers, and runs the node service.
set -eu
seed=/opt/burla/image-seed # read-only; up.sh writes it
storage=/worker_service_storage
gateway=10.213.0.1 # not in 172.17.0.0/16, the network of the outer Docker, the head and this machine's databases

share_controllers() { # cgroup v2 passes controllers only from groups without processes: move all processes to a subgroup
    local group=/sys/fs/cgroup controller pid
    [ -f $group/cgroup.controllers ] || return 0
    mkdir -p $group/burla-node-service.slice
    while read -r pid; do
        echo "$pid" > $group/burla-node-service.slice/cgroup.procs || true
    done < $group/cgroup.procs
    for controller in $(cat $group/cgroup.controllers); do
        echo "+$controller" > $group/cgroup.subtree_control || true
    done
}

start_docker() {
    dockerd --bip $gateway/24 --dns $gateway > /var/log/dockerd.log 2>&1 &
    until docker version > /dev/null 2>&1; do
        kill -0 $! || { tail -n 50 /var/log/dockerd.log; exit 1; }
        sleep 0.2
    done
    # Workers resolve names with the outer Docker's name server and this container's /etc/hosts (host.docker.internal).
    dnsmasq --bind-interfaces --except-interface=lo --listen-address=$gateway --no-resolv --server=127.0.0.11
    docker image inspect "python:$WORKER_PYTHON" > /dev/null 2>&1 ||
        docker load --quiet --input "$seed/worker-$WORKER_PYTHON.tar"
}

prepare_workers() {
    # Workers trust the machine's certificates: the machine may be behind a proxy.
    mkdir -p /etc/burla/tls
    cp $seed/ca.crt /etc/burla/tls/ca-bundle.pem
    export SSL_CERT_FILE=/etc/burla/tls/ca-bundle.pem
    # The first worker would download uv from GitHub.
    # Another cluster of this machine may have had another Python. Its compiled packages cannot be imported.
    [ "$(cat $storage/python_version 2> /dev/null)" = "$WORKER_PYTHON" ] || rm -rf $storage/python_env
    echo "$WORKER_PYTHON" > $storage/python_version
    mkdir -p $storage/python_env/bin $storage/uv_cache
    cp /opt/burla/site/bin/uv $storage/python_env/bin/uv
    UV_CACHE_DIR=$storage/uv_cache $storage/python_env/bin/uv pip install --quiet --target $storage/python_env \
        --python-version "$WORKER_PYTHON" --python-platform x86_64-manylinux_2_28 "burla==$BURLA_VERSION"
}

share_controllers
start_docker
prepare_workers
# No exec: this shell is process 1 of the container and reaps the processes of ended workers.
cd /opt/burla/node_service
PYTHONPATH=/opt/burla/node_service/src:/opt/burla/site \
    python3 -m uvicorn node_service:app --host 0.0.0.0 --port "$NODE_PORT" --workers 1 --timeout-keep-alive 600
