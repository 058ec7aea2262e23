#!/bin/bash
# Several nodes under SLURM, one torchrun per node. The run goes on by itself after a time limit or
# a pre-emption: SIGTERM comes 120 s before the end, all ranks save at the same step, and the job is
# queued again with the same command, which resumes.
#
#   sbatch examples/slurm.sh gat-b2-imagenet256 runs/b2 --data.shards shards/in256
#
#SBATCH --job-name=scalegan
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -u
recipe=${1:?name a recipe or a config.toml}
run=${2:?name the folder of the run, on a disk that all nodes see}
shift 2

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export OMP_NUM_THREADS=$((${SLURM_CPUS_PER_TASK:-8} / ${SLURM_GPUS_ON_NODE:-1}))

# Every attempt gets a store of its own, free of the addresses of dead ranks (docs/faults.md).
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
srun --kill-on-bad-exit=1 torchrun \
    --nnodes "$SLURM_JOB_NUM_NODES" --nproc-per-node "${SLURM_GPUS_ON_NODE:-1}" \
    --rdzv-backend c10d --rdzv-endpoint "$head:29500" --rdzv-id "$SLURM_JOB_ID" \
    --max-restarts 3 \
    -m -- scalegan train "$recipe" --run "$run" "$@"
code=$?

# A run that is not complete has no judgement and no "next:" line at its end; ask its record.
if [ "$code" -ne 0 ] && tail -n 1 "$run/log.txt" | grep -q "the same command goes on from here"; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
