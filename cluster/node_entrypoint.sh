#!/bin/bash
# Boots a node: runs first in the privileged container that the head starts, in the place of a file that the burla wheel
# lacks. It makes what a cloud machine's start-up script makes: a Docker engine, the workers' image and directories, uv
# and burla for the workers; then it runs the node service.
set -eu
seed=/opt/burla/image-seed # read-only, filled by up.sh
storage=/worker_service_storage
gateway=10.213.0.1 # not 172.17.0.0/16: there the outer Docker is, the way to the head and to this machine's databases

share_controllers() { # cgroup v2 hands controllers down only from a group without processes: move ours into one below
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
    # The outer Docker's name server and this container's /etc/hosts (host.docker.internal), for the workers.
    dnsmasq --bind-interfaces --except-interface=lo --listen-address=$gateway --no-resolv --server=127.0.0.11
    docker image inspect "python:$WORKER_PYTHON" > /dev/null 2>&1 ||
        docker load --quiet --input "$seed/worker-$WORKER_PYTHON.tar"
}

equip_workers() {
    # They trust the certificates that the machine trusts, which may be behind a proxy.
    mkdir -p /etc/burla/tls
    cp $seed/ca.crt /etc/burla/tls/ca-bundle.pem
    export SSL_CERT_FILE=/etc/burla/tls/ca-bundle.pem
    # Without a uv of its own, the first worker would look for one on GitHub.
    mkdir -p $storage/python_env/bin $storage/uv_cache
    cp /opt/burla/site/bin/uv $storage/python_env/bin/uv
    UV_CACHE_DIR=$storage/uv_cache $storage/python_env/bin/uv pip install --quiet --target $storage/python_env \
        --python-version "$WORKER_PYTHON" --python-platform x86_64-manylinux_2_28 "burla==$BURLA_VERSION"
}

share_controllers
start_docker
equip_workers
# No exec: this shell, process 1 of the container, reaps what ended workers leave behind.
cd /opt/burla/node_service
PYTHONPATH=/opt/burla/node_service/src:/opt/burla/site \
    python3 -m uvicorn node_service:app --host 0.0.0.0 --port "$NODE_PORT" --workers 1 --timeout-keep-alive 600
