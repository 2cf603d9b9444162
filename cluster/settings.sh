# What up.sh and down.sh agree on. Every value can be set in the environment.
STATE=${BURLA_CLUSTER_STATE:-${XDG_CACHE_HOME:-$HOME/.cache}/burla-cluster} # everything that is kept, but for images
PORT=${BURLA_CLUSTER_PORT:-5001}                                            # the head: API and dashboard
NODE_PORTS=${BURLA_CLUSTER_NODE_PORTS:-9000}                                # node n listens on this plus n
NODES=${BURLA_CLUSTER_NODES:-1}                                             # of two workers each
PYTHON=${BURLA_CLUSTER_PYTHON:-3.11}                                        # the workers', and so the clients': 3.11 or 3.13
TOKEN=${BURLA_CLUSTER_TOKEN:-local-dev-token}                               # what clients log in with
NAME=${BURLA_CLUSTER_NAME:-kit}                                             # label of its containers and network
BURLA=1.8.4

URL=http://localhost:$PORT
HEAD=$STATE/head-$BURLA         # the head's virtual environment
SOURCES=$STATE/checkout-$BURLA  # what a node mounts
WORKER_IMAGE=python:$PYTHON     # the name that Burla asks for by itself
NODE_IMAGE=burla-node-service:$BURLA-py$PYTHON
