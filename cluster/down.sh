#!/bin/bash
# Stops what up.sh started. With --purge, removes its images and its state too.
set -uo pipefail
. "$(dirname "$0")/settings.sh"

stop() { # the process of $STATE/$1.pid, provided that it still is a $2
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
echo "Burla is down."
