#!/bin/bash
# Elastic torchrun, as in a Kubernetes pod: a worker that is killed is started again with all others,
# and the run goes on from its last checkpoint. Start the same command on every node (pod).
#
#   RDZV_ENDPOINT=host:29400 NODES=1 PER_NODE=2 examples/elastic/train.sh digits --run runs/elastic
#
# NODES may be a range such as 1:4. Where the number of ranks changes, weights, optimizers and the
# order of the data go on exactly; noise is drawn anew (docs/faults.md).
set -eu
# By default the groups of all attempts share one store, and a new group may read the addresses of
# dead ranks there and wait for them. This gives every attempt a store of its own.
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
exec "${PYTHON:-python3}" -m torch.distributed.run \
    --nnodes "${NODES:-1}" --nproc-per-node "${PER_NODE:-2}" \
    --rdzv-backend c10d --rdzv-endpoint "${RDZV_ENDPOINT:-127.0.0.1:29400}" \
    --rdzv-id "${RDZV_ID:-scalegan}" \
    --max-restarts "${MAX_RESTARTS:-10}" \
    -m -- scalegan train "$@"
