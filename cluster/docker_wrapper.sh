#!/bin/sh
# `docker` inside a node. The node service pulls the workers' image before each start; here that image is loaded already
# and is in no registry.
[ "$1" = pull ] && /usr/bin/docker image inspect "$2" > /dev/null 2>&1 && exit 0
exec /usr/bin/docker "$@"
