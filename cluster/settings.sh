# Settings of up.sh and down.sh. The BURLA_CLUSTER_* variables override them.
STATE=${BURLA_CLUSTER_STATE:-${XDG_CACHE_HOME:-$HOME/.cache}/burla-cluster} # all files, except images
PORT=${BURLA_CLUSTER_PORT:-5001}                                            # of the head, which has the API and the dashboard
NODE_PORTS=${BURLA_CLUSTER_NODE_PORTS:-9000}                                # node n listens on this port plus n
NODES=${BURLA_CLUSTER_NODES:-1}                                             # each has two workers
PYTHON=${BURLA_CLUSTER_PYTHON:-3.11}                                        # version on workers and clients: 3.11 or 3.13
TOKEN=${BURLA_CLUSTER_TOKEN:-local-dev-token}                               # with which clients log in
NAME=${BURLA_CLUSTER_NAME:-kit}                                             # label of containers and networks
BURLA=1.8.4

URL=http://localhost:$PORT
HEAD=$STATE/head-$BURLA         # virtual environment of the head
SOURCES=$STATE/checkout-$BURLA  # mounted into nodes
WORKER_IMAGE=python:$PYTHON     # Burla's default image name
NODE_IMAGE=burla-node-service:$BURLA-py$PYTHON
