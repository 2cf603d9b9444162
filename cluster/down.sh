#!/bin/bash
# Stop the cluster that up.sh started. --purge also removes its images and its state.
set -uo pipefail
. "$(dirname "$0")/settings.sh"

stop() { # stop <name> <text>: stop the process in $STATE/<name>.pid if its command line contains <text>
    local pid
    pid=$(cat "$STATE/$1.pid" 2> /dev/null) || return 0
    if grep -qs "$2" "/proc/$pid/cmdline"; then
        kill "$pid"
        for _ in $(seq 150); do
            [ -d "/proc/$pid" ] || break
            sleep 0.1
        done
    fi
    rm -f "$STATE/$1.pid"
}

stop head main_service
if docker version > /dev/null 2>&1; then
    docker ps --all --quiet --filter "label=burla-cluster=$NAME" | xargs -r docker rm --force --volumes > /dev/null
    docker network rm "burla-$NAME" > /dev/null 2>&1
    if [ "${1-}" = --purge ]; then
        docker volume ls --quiet --filter "label=burla-cluster=$NAME" | xargs -r docker volume rm > /dev/null
        docker images --quiet burla-node-service | xargs -r docker rmi --force > /dev/null
    fi
fi
stop dockerd dockerd
if [ "${1-}" = --purge ]; then rm -rf "$STATE"; fi
echo "The Burla cluster is stopped."
